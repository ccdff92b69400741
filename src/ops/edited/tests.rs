//! Files that are edited while their network is up, against a registry on disk. No test here names another bridge:
//! nothing outside the folders is touched.

use std::time::{Duration, SystemTime};

use super::*;
use crate::model::{BootId, ClaimRequest, Kind, Owner};
use crate::ops::{claim, release, reserve, surroundings::up_networks};
use crate::places::Places;

const FILE: &str = "format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n";

struct Host {
    _folder: tempfile::TempDir,
    context: Context,
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn io(error: std::io::Error) -> Fault {
    Fault::failed("test").because(error)
}

fn name(name: &str) -> Result<NetworkName> {
    Ok(name.parse()?)
}

/// A host with the network `hybrid`, which is up.
fn host() -> Result<Host> {
    let folder = tempfile::tempdir().map_err(io)?;
    let at = |name: &str| folder.path().join(name);
    let places = Places { config: at("etc"), state: at("var"), run: at("run") };
    std::fs::create_dir_all(places.networks()).map_err(io)?;
    let host = Host { context: Context { places, boot: BootId("now".into()) }, _folder: folder };
    host.write("hybrid", FILE)?;
    host.put("hybrid")?;
    Ok(host)
}

impl Host {
    fn write(&self, network: &str, text: &str) -> Result<()> {
        std::fs::write(self.context.places.network_file(&name(network)?), text).map_err(io)
    }

    /// As `apply` and `up` do it, without what is outside.
    fn put(&self, network: &str) -> Result<()> {
        let written = networks::as_written(&self.context.places, &name(network)?)?;
        refuse_newcomer(&self.context, &written.network)?;
        put_in_force(&self.context, &written, soon())
    }

    fn in_force(&self, network: &str) -> Result<Network> {
        networks::load(&self.context.places, &name(network)?)
    }

    fn vm(&self, n: u8, ip: Option<&str>) -> Result<String> {
        let owner =
            Owner { id: format!("{n:032x}").parse()?, origin: Origin::Domain, name: Some("db".into()) };
        let ip = ip.map(|a| a.parse().map_err(|_| Fault::failed("address"))).transpose()?;
        let mac = format!("52:54:00:00:00:{n:02x}").parse()?;
        let wish = ClaimRequest { ip, ..ClaimRequest::of(owner, mac) };
        Ok(claim::claim(&self.context, &name("hybrid")?, wish, soon())?.lease.address.to_string())
    }

    fn release(&self, n: u8, forget: bool) -> Result<()> {
        let which = release::Which {
            owner: format!("{n:032x}").parse()?,
            macs: vec![format!("52:54:00:00:00:{n:02x}").parse()?],
            generation: None,
        };
        release::release(&self.context, &name("hybrid")?, &which, forget, soon()).map(drop)
    }

    /// When a network's file was written.
    fn stamp(&self, network: &str, seconds: u64) -> Result<()> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let file =
            std::fs::File::options().write(true).open(self.context.places.network_file(&name(network)?));
        file.and_then(|f| f.set_modified(at)).map_err(io)
    }
}

fn subnet(network: &Network) -> String {
    network.families().map(|f| f.subnet.to_string()).collect()
}

fn words<T>(result: Result<T>) -> String {
    result.err().map(|f| f.to_string()).unwrap_or_default()
}

#[test]
fn an_edit_that_is_refused_changes_nothing() -> Result<()> {
    let host = host()?;
    let places = &host.context.places;
    assert_eq!(host.vm(1, Some("10.0.1.200"))?, "10.0.1.200");
    host.write("hybrid", &FILE.replace("10.0.1.", "10.0.9."))?;
    assert!(words(host.put("hybrid")).contains("10.0.1.200 is outside the subnet 10.0.9.0/24"));
    // Claims, hooks, the firewall's table, the service: all go by what is in force.
    assert_eq!(host.vm(2, None)?, "10.0.1.128");
    assert_eq!(subnet(&host.in_force("hybrid")?), "10.0.1.0/24");
    let (all, faults) = up_networks(&host.context)?;
    assert_eq!(
        (all.iter().map(subnet).collect::<Vec<_>>(), faults.len()),
        (vec!["10.0.1.0/24".to_owned()], 0)
    );
    let edited = networks::edited(places, &host.in_force("hybrid")?).transpose()?;
    assert_eq!(edited.as_ref().map(subnet).as_deref(), Some("10.0.9.0/24"));
    // Once nobody is in the way, it counts.
    host.release(1, true)?;
    host.release(2, false)?;
    host.put("hybrid")?;
    assert_eq!(subnet(&host.in_force("hybrid")?), "10.0.9.0/24");
    assert!(networks::edited(places, &host.in_force("hybrid")?).is_none());
    assert_eq!(host.vm(3, None)?, "10.0.9.128");
    Ok(())
}

#[test]
fn what_was_in_force_counts_until_it_is_forgotten_and_goes_with_the_network() -> Result<()> {
    let host = host()?;
    let (places, hybrid) = (&host.context.places, name("hybrid")?);
    host.write("hybrid", &format!("# mine\n{}", FILE.replace("= 1\n", "= 1\nmtu = 9000\n")))?;
    assert_eq!(host.in_force("hybrid")?.mtu, 1500);
    networks::forget_applied(places, &hybrid)?;
    assert_eq!(host.in_force("hybrid")?.mtu, 9000);
    host.put("hybrid")?;
    host.write("hybrid", FILE)?;
    assert_eq!(host.in_force("hybrid")?.mtu, 9000);
    // The next network of this name begins with its own file, wherever the removal of the last one was cut off.
    networks::delete(places, &hybrid)?;
    assert_eq!(
        words(host.in_force("hybrid").map_err(|f| Fault::failed(format!("{:?}", f.kind())))),
        "Missing"
    );
    host.write("hybrid", FILE)?;
    assert_eq!(host.in_force("hybrid")?.mtu, 1500);
    Ok(())
}

#[test]
fn a_comment_is_no_edit_and_the_copy_follows_it_all_the_same() -> Result<()> {
    let host = host()?;
    let places = &host.context.places;
    host.write("hybrid", &format!("# the network of the lab\n{FILE}"))?;
    let written = networks::as_written(places, &name("hybrid")?)?;
    assert!(networks::edited(places, &host.in_force("hybrid")?).is_none());
    assert!(!networks::is_applied(places, &written)?);
    host.put("hybrid")?;
    assert!(networks::is_applied(places, &written)?);
    Ok(())
}

#[test]
fn a_file_that_can_t_be_used_does_not_count_and_one_that_is_gone_does() -> Result<()> {
    let host = host()?;
    let places = &host.context.places;
    host.write("hybrid", "colour = \"red\"\n")?;
    assert_eq!(host.vm(2, None)?, "10.0.1.128");
    let edited = networks::edited(places, &host.in_force("hybrid")?).transpose();
    assert!(edited.err().is_some_and(|f| f.to_string().contains("hybrid.toml can't be used")));
    networks::forget_applied(places, &name("hybrid")?)?;
    assert!(words(host.in_force("hybrid")).contains("hybrid.toml can't be used"));
    std::fs::remove_file(host.context.places.network_file(&name("hybrid")?)).map_err(io)?;
    assert_eq!(host.in_force("hybrid").err().map(|f| f.kind()), Some(Kind::Missing));
    Ok(())
}

#[test]
fn a_copy_that_can_t_be_read_is_a_fault_and_written_again() -> Result<()> {
    let host = host()?;
    std::fs::write(host.context.places.applied_file(&name("hybrid")?), "format").map_err(io)?;
    let fault = host.in_force("hybrid").err();
    assert_eq!(
        fault.as_ref().and_then(Fault::hint_text),
        Some("hybrid-hook apply hybrid makes it again"),
        "{fault:?}"
    );
    host.put("hybrid")?;
    assert_eq!(subnet(&host.in_force("hybrid")?), "10.0.1.0/24");
    Ok(())
}

#[test]
fn cut_off_between_two_steps_it_is_done_again() -> Result<()> {
    let host = host()?;
    let (places, hybrid) = (&host.context.places, name("hybrid")?);
    let new = FILE.replace("= 1\n", "= 1\nmtu = 9000\n");
    // The status is there and the copy is not, or is the one of before.
    networks::forget_applied(places, &hybrid)?;
    host.put("hybrid")?;
    host.write("hybrid", &new)?;
    assert_eq!(host.in_force("hybrid")?.mtu, 1500);
    host.put("hybrid")?;
    assert_eq!(host.in_force("hybrid")?.mtu, 9000);
    // The copy is there and the status says down: `down` was cut off, and `up` goes by the file.
    let mut status = status::load(places, &hybrid)?;
    status.up = false;
    status::store(places, &hybrid, &status)?;
    host.write("hybrid", FILE)?;
    assert_eq!(host.in_force("hybrid")?.mtu, 9000);
    host.put("hybrid")?;
    assert_eq!(host.in_force("hybrid")?.mtu, 1500);
    assert!(status::load(places, &hybrid)?.up);
    Ok(())
}

#[test]
fn a_domain_on_what_the_file_no_longer_names_is_still_ours_and_one_on_what_it_will_name_may_be() -> Result<()>
{
    let host = host()?;
    let places = &host.context.places;
    let with = |bridge: &str| FILE.replace("= 1\n", &format!("= 1\nbridge = \"{bridge}\"\n"));
    networks::forget_applied(places, &name("hybrid")?)?;
    host.write("hybrid", &with("br-old"))?;
    networks::put_in_force(places, &networks::as_written(places, &name("hybrid")?)?)?;
    host.write("hybrid", &with("br-new"))?;
    assert!(networks::may_name(places, &["br-old"]) && networks::may_name(places, &["br-new"]));
    assert!(!networks::may_name(places, &["br-other"]));
    assert_eq!(host.in_force("hybrid")?.bridge.as_str(), "br-old");
    Ok(())
}

#[test]
fn who_has_a_thing_keeps_it_whichever_file_was_written_last() -> Result<()> {
    let host = host()?;
    let other = |zone: &str| {
        format!("format = 1\nbridge = \"br-b\"\nzone = \"{zone}\"\n[ipv4]\nsubnet = \"10.0.2.0/24\"\n")
    };
    host.write("other", &other("b.internal"))?;
    host.put("other")?;
    let taken = FILE.replace("= 1\n", "= 1\nzone = \"b.internal\"\n");
    host.write("hybrid", &taken)?;
    for (first, second) in [(10, 20), (20, 10)] {
        host.stamp("hybrid", first)?;
        host.stamp("other", second)?;
        assert!(words(host.put("hybrid")).contains("network other has it"));
        host.put("other")?;
    }
    // What another wants and does not have yet is free.
    host.write("other", &other("c.internal"))?;
    assert!(words(host.put("hybrid")).contains("network other has it"));
    host.put("other")?;
    host.put("hybrid")?;
    // Without a copy, as before there was one, the file that was written last is refused.
    for network in ["hybrid", "other"] {
        networks::forget_applied(&host.context.places, &name(network)?)?;
    }
    host.write("other", &other("b.internal"))?;
    host.stamp("hybrid", 10)?;
    host.stamp("other", 20)?;
    assert!(words(host.put("other")).contains("network hybrid has it"));
    host.put("hybrid")
}

#[test]
fn a_network_that_was_edited_while_it_was_down_comes_up_once_everybody_has_a_place() -> Result<()> {
    let host = host()?;
    let (context, hybrid) = (&host.context, name("hybrid")?);
    host.vm(1, Some("10.0.1.200"))?;
    host.release(1, false)?;
    // As `down` leaves it. A bridge to be adopted that is not there: nothing could be made of it.
    status::store(&context.places, &hybrid, &Status::default())?;
    networks::forget_applied(&context.places, &hybrid)?;
    let text =
        FILE.replace("= 1\n", "= 1\nadopt = true\nbridge = \"t-nothing\"\n").replace("10.0.1.", "10.0.9.");
    host.write("hybrid", &text)?;
    let Err(fault) = network::up(context, &hybrid, soon()) else { return Err(Fault::failed("it came up")) };
    assert_eq!(fault.kind(), Kind::Refused);
    assert_eq!(
        fault.hint_text(),
        Some(
            "free the addresses that are kept: hybrid-hook release --network hybrid --owner \
             00000000-0000-0000-0000-000000000001 --mac 52:54:00:00:00:01 --forget; or edit the file back"
        )
    );
    assert!(!status::load(&context.places, &hybrid)?.up);
    let new = networks::as_written(&context.places, &hybrid)?.network;
    assert!(refuse_misfits(context, &new).is_err());
    host.release(1, true)?;
    refuse_misfits(context, &new)
}

#[test]
fn the_way_out_is_one_that_works_for_whoever_is_in_the_way() -> Result<()> {
    let host = host()?;
    let hybrid = name("hybrid")?;
    let hint = |host: &Host| {
        host.write("hybrid", &FILE.replace("10.0.1.", "10.0.9."))?;
        let refused = host.put("hybrid").err();
        host.write("hybrid", FILE)?;
        host.put("hybrid")?;
        Ok::<_, Fault>(refused.and_then(|f| f.hint_text().map(str::to_owned)).unwrap_or_default())
    };
    host.vm(1, None)?;
    assert_eq!(hint(&host)?, "stop those that run; or edit the file back");
    host.release(1, false)?;
    assert_eq!(hint(&host)?, "");
    let label = "web".parse()?;
    let address = |last: u8| std::net::IpAddr::from([10, 0, 1, last]);
    reserve::reserve(&host.context, &hybrid, address(20), &reserve::For::Hostname(label), soon())?;
    let text = hint(&host)?;
    assert!(text.contains("hybrid-hook reserve --network hybrid --ip 10.0.1.20 --remove; or edit"), "{text}");
    for n in 2..6 {
        host.vm(n, Some(&format!("10.0.1.20{n}")))?;
    }
    let text = hint(&host)?;
    assert!(text.starts_with("stop those that run; free the addresses"), "{text}");
    assert_eq!(text.matches("--forget").count() + text.matches("--remove").count(), SHOWN, "{text}");
    assert!(text.contains("and so on (hybrid-hook leases --network hybrid)"), "{text}");
    Ok(())
}
