//! A domain's life against a registry on disk.

use super::super::testing::{Host, soon};
use super::*;

/// A domain whose number is its UUID's; its NICs by their number and their metadata.
fn domain(number: u8, nics: &[(u8, &str)]) -> String {
    let mac = |nic: &u8| format!("52:54:00:00:00:{nic:02x}");
    let entries: String = nics
        .iter()
        .filter(|(_, wishes)| *wishes != "none")
        .map(|(nic, wishes)| format!("<h:network name='hybrid' mac='{}' {wishes}/>", mac(nic)))
        .collect();
    let devices: String = nics
        .iter()
        .map(|(nic, _)| {
            format!(
                "<interface type='bridge'><mac address='{}'/><source bridge='t-nowhere'/></interface>",
                mac(nic)
            )
        })
        .collect();
    format!(
        "<domain type='kvm'><name>vm{number}</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db18{number:02x}</uuid>\
         <metadata><h:networks xmlns:h='{NAMESPACE}'>{entries}</h:networks></metadata>\
         <devices>{devices}</devices></domain>"
    )
}

const NAMESPACE: &str = crate::host::libvirt::protocol::METADATA_NAMESPACE;

fn call(host: &Host, operation: Operation, xml: &str) -> Result<Vec<u8>> {
    act(&host.context, operation, xml.as_bytes(), &host.networks, Vec::new(), soon())
}

#[test]
fn what_a_domain_holds_is_idle_after_its_end_though_its_metadata_fits_no_more() -> Result<()> {
    let host = Host::new()?;
    call(&host, Operation::Prepare, &domain(1, &[(1, "block='2'"), (2, "")]))?;
    call(&host, Operation::Prepare, &domain(2, &[(3, "")]))?;
    assert_eq!(host.told()?.iter().filter(|l| l.ends_with("active")).count(), 5);
    // The second NIC was unplugged; its metadata was not.
    let torn = domain(1, &[(1, "block='2'"), (2, "")]).replace(
        "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='t-nowhere'/></interface>",
        "",
    );
    assert!(call(&host, Operation::Release, &torn).is_err(), "it is said all the same");
    let told = host.told()?;
    assert_eq!(told.iter().filter(|l| l.ends_with("idle")).count(), 4, "{told:?}");
    assert!(told.iter().any(|l| l.ends_with("03 active")), "{told:?}");
    Ok(())
}

#[test]
fn a_refused_start_leaves_the_registry_as_it_was() -> Result<()> {
    let host = Host::new()?;
    let db = domain(1, &[(1, "hostname='db' aliases='pg'")]);
    call(&host, Operation::Prepare, &db)?;
    call(&host, Operation::Release, &db)?;
    call(&host, Operation::Prepare, &domain(2, &[(2, "ip='10.0.1.20'")]))?;
    // One that had a lease and a block already, under another name.
    let web = domain(3, &[(3, "hostname='old' block='8'")]);
    call(&host, Operation::Prepare, &web)?;
    call(&host, Operation::Release, &web)?;
    let before = host.leases()?;
    assert_eq!(before.len(), 11);
    for nics in [
        // db's idle address, then one that is in use.
        &[(4, "ip='10.0.1.128'"), (5, "ip='10.0.1.20'")],
        &[(3, "hostname='web' ip='10.0.1.128' block='2'"), (5, "ip='10.0.1.20'")],
        &[(3, "hostname='web' block='16'"), (5, "ip='10.0.1.20'")],
    ] {
        let refused = call(&host, Operation::Prepare, &domain(3, nics)).err();
        assert!(refused.is_some_and(|f| f.to_string().contains("10.0.1.20 is held")), "{nics:?}");
        assert_eq!(host.leases()?, before, "{nics:?}");
    }
    Ok(())
}
