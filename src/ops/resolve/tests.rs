use super::*;
use crate::model::network_file::NetworkFile;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const NOW: &str = "now";

fn network(name: &str, text: &str) -> Result<Network> {
    Ok(NetworkFile::parse(&format!("format = 1\n{text}"))?.network(&name.parse()?)?)
}

/// A VM's lease.
fn vm(address: &str, name: &str, runs: bool) -> Result<Lease> {
    let last = address.rsplit('.').next().unwrap_or_default();
    let mut lease: Lease = toml_edit::de::from_str(&format!(
        "address = \"{address}\"\nmac = \"52:54:00:00:00:01\"\nstate = \"active\"\nhostname = \"{name}\"\n\
         generation = 1\nsince = 0\nchanged = 0\n\
         [owner]\nid = \"c7a5fdbd-edaf-9455-926a-d65c16db1{last:0>3}\"\norigin = \"domain\"\nname = \"{name}\"\n"
    ))?;
    if !runs {
        lease.state = LeaseState::Idle;
    }
    lease.boot = Some(BootId(NOW.to_owned()));
    lease.running = runs;
    Ok(lease)
}

fn chosen(all: &[(Network, Vec<Lease>)], name: &str, who: &str) -> Result<String> {
    let wish = Wish { name: name.to_owned(), who: who.parse()?, network: None };
    let place = best(all, &wish, &BootId(NOW.to_owned()));
    Ok(all.get(place).map(|(n, _)| n.name.to_string()).unwrap_or_default())
}

#[test]
fn the_network_that_a_question_is_about() -> Result {
    let all = [
        (
            network("aa", "[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?,
            vec![
                vm("10.0.1.200", "db", false)?,
                vm("10.0.1.201", "old", false)?,
                vm("10.0.1.202", "here", true)?,
            ],
        ),
        (
            network("bb", "zone = \"dev.aa.internal\"\n[ipv4]\nsubnet = \"10.0.2.0/24\"\n")?,
            vec![vm("10.0.2.200", "db", true)?, vm("10.0.2.201", "there", true)?],
        ),
        (network("hybrid", "[ipv4]\nsubnet = \"10.0.3.0/24\"\n")?, Vec::new()),
    ];
    for (name, who, network) in [
        // Who has the name now comes before who would if he ran.
        ("db", "host", "bb"),
        ("old", "host", "aa"),
        ("nobody", "host", "hybrid"),
        // What a guest asks is asked where it is.
        ("db", "vm:here", "aa"),
        ("db", "vm:there", "bb"),
        ("old", "vm:there", "bb"),
        ("outside.example", "vm:there", "bb"),
        // One that is off is nowhere.
        ("db", "vm:old", "bb"),
        // A zone or a subnet says it all, and the nearest zone.
        ("db.aa.internal", "host", "aa"),
        ("db.dev.aa.internal", "host", "bb"),
        ("10.0.1.7", "vm:there", "aa"),
    ] {
        assert_eq!(chosen(&all, name, who)?, network, "{name}, asked by {who}");
    }
    Ok(())
}
