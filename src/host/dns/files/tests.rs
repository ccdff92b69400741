use super::*;
use crate::host::dns::testing::{Result, lease, network};
use crate::model::lease::Handover;

const OLD: &str = "52:54:00:00:00:01";
const NEW: &str = "52:54:00:00:00:02";
const THIRD: &str = "52:54:00:00:00:03";

struct Bench {
    _root: tempfile::TempDir,
    places: Places,
    network: Network,
}

fn bench() -> Result<Bench> {
    let root = tempfile::tempdir()?;
    let run = root.path().join("run");
    let places = Places { config: root.path().into(), state: root.path().into(), run };
    let network = network("format = 1\n[ipv4]\nsubnet = \"10.0.1.0/24\"\n")?;
    write_static(&network, &[], &places)?;
    Ok(Bench { _root: root, places, network })
}

impl Bench {
    fn write(&self, lease: &Lease) -> Result<Written> {
        Ok(write_lease(&self.network, &self.places, lease)?)
    }

    fn line(&self, mac: &str) -> Result<Option<String>> {
        let path = Folder::of(&self.network, &self.places).reservations();
        Ok(read(&path.join(mac.replace(':', "")))?)
    }

    fn reloaded(&self) -> Result {
        remove(&Folder::of(&self.network, &self.places).reload_needed())?;
        Ok(())
    }

    /// Every file of the guests, name and text.
    fn all(&self) -> Result<std::collections::BTreeMap<String, String>> {
        let own = Folder::of(&self.network, &self.places);
        let mut all = std::collections::BTreeMap::new();
        for folder in [own.reservations(), own.hosts()] {
            for name in names(&folder)? {
                let text = fs::read_to_string(folder.join(&name))?;
                all.insert(format!("{}/{name}", folder.display()), text);
            }
        }
        Ok(all)
    }
}

fn moved(mac: &str, from: &str, address: &str) -> Result<Lease> {
    let mut lease = lease(address, mac, Some("db"))?;
    lease.handover = Some(Handover { mac: from.parse()?, until: 0 });
    Ok(lease)
}

#[test]
fn only_a_new_reservation_is_seen_without_a_reload() -> Result {
    let bench = bench()?;
    let mut db = lease("10.0.1.200", OLD, Some("db"))?;
    assert_eq!(bench.write(&db)?, Written::Seen);
    assert_eq!(bench.write(&db)?, Written::Unchanged);
    db.aliases = vec!["pg".parse()?];
    assert_eq!(bench.write(&db)?, Written::Seen, "names alone");
    db.address = "10.0.1.201".parse()?;
    assert_eq!(bench.write(&db)?, Written::NeedsReload);
    assert_eq!(bench.write(&db)?, Written::Unchanged);
    let other = lease("10.0.1.200", NEW, None)?;
    assert_eq!(bench.write(&other)?, Written::NeedsReload, "dnsmasq still has .200 in the old line");
    bench.reloaded()?;
    assert_eq!(bench.write(&lease("10.0.1.202", THIRD, None)?)?, Written::Seen);
    assert_eq!(remove_lease(&bench.network, &bench.places, OLD.parse()?)?, Written::NeedsReload);
    assert_eq!(remove_lease(&bench.network, &bench.places, OLD.parse()?)?, Written::Unchanged);
    Ok(())
}

#[test]
fn no_mac_is_listed_by_two_reservations_of_the_same_rank() -> Result {
    // OLD's address went to NEW; then OLD takes THIRD's.
    let (first, second) = (moved(NEW, OLD, "10.0.1.200")?, moved(OLD, THIRD, "10.0.1.201")?);
    for order in [[&first, &second], [&second, &first]] {
        let bench = bench()?;
        for lease in order {
            let _ = bench.write(lease)?;
        }
        assert_eq!(bench.line(NEW)?.as_deref(), Some("tag:hybr0,52:54:00:00:00:02,10.0.1.200\n"));
        let line = bench.line(OLD)?;
        assert_eq!(line.as_deref(), Some("52:54:00:00:00:01,52:54:00:00:00:03,10.0.1.201\n"));
        // All at once gives the same.
        let before = bench.all()?;
        let written = write_all(&bench.network, &bench.places, &[first.clone(), second.clone()])?;
        assert_eq!(written, Written::Unchanged);
        assert_eq!(bench.all()?, before);
    }
    Ok(())
}

#[test]
fn write_all_adds_changes_and_removes() -> Result {
    let bench = bench()?;
    let (a, b) = (lease("10.0.1.200", OLD, Some("a"))?, lease("10.0.1.201", NEW, Some("b"))?);
    assert_eq!(write_all(&bench.network, &bench.places, &[a.clone(), b])?, Written::Seen);
    let c = lease("10.0.1.202", THIRD, None)?;
    assert_eq!(write_all(&bench.network, &bench.places, &[a.clone(), c])?, Written::NeedsReload);
    assert_eq!(bench.line(NEW)?, None);
    assert_eq!(bench.all()?.len(), 3);
    assert_eq!(write_all(&bench.network, &bench.places, &[])?, Written::NeedsReload);
    assert_eq!(bench.all()?.len(), 0);
    Ok(())
}

#[test]
fn guests_that_share_a_file_do_not_touch_each_other() -> Result {
    // Of 40 guests, 1 and 17 share a file, as do 2 and 18.
    let guest = |n: u32, name: &str| {
        lease(&format!("10.0.1.{}", 100 + n), &format!("52:54:00:00:00:{n:02x}"), Some(name))
    };
    let one_by_one = bench()?;
    let mut leases = Vec::new();
    for n in (1..=40).rev() {
        let lease = guest(n, &format!("vm{n}"))?;
        assert_eq!(one_by_one.write(&lease)?, Written::Seen);
        leases.push(lease);
    }
    let hosts = Folder::of(&one_by_one.network, &one_by_one.places).hosts();
    assert_eq!(names(&hosts)?.len(), shared::SHARED);
    let at_once = bench()?;
    let _ = write_all(&at_once.network, &at_once.places, &leases)?;
    let texts = |bench: &Bench| -> Result<Vec<String>> { Ok(bench.all()?.into_values().collect()) };
    assert_eq!(texts(&one_by_one)?, texts(&at_once)?, "one by one and all at once");
    assert!(stale(&one_by_one.network, &[], &one_by_one.places, &leases)?.is_empty());

    // One is renamed, one goes, and somebody's line is in their file.
    let shared = hosts.join("1");
    fs::write(&shared, read(&shared)?.unwrap_or_default() + "10.0.1.9 evil\n")?;
    assert_eq!(one_by_one.write(&guest(1, "other")?)?, Written::Seen);
    let _ = remove_lease(&one_by_one.network, &one_by_one.places, "52:54:00:00:00:11".parse()?)?;
    assert_eq!(
        read(&shared)?.as_deref(),
        Some(
            "10.0.1.101 other.hybrid.internal other # 52:54:00:00:00:01\n\
             10.0.1.133 vm33.hybrid.internal vm33 # 52:54:00:00:00:21\n"
        )
    );
    Ok(())
}

#[test]
fn dnsmasq_can_read_what_a_caller_with_a_narrow_umask_wrote() -> Result {
    let bench = bench()?;
    let _ = bench.write(&lease("10.0.1.200", OLD, Some("db"))?)?;
    let own = Folder::of(&bench.network, &bench.places);
    let mode = |path: &Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o777) };
    assert_eq!(mode(&own.hosts().join("1"))?, 0o644);
    assert_eq!(mode(&own.reservations())?, 0o755);
    fs::set_permissions(own.path(), fs::Permissions::from_mode(0o700))?;
    assert_eq!(write_static(&bench.network, &[], &bench.places)?, Change::Made);
    assert_eq!(mode(own.path())?, 0o755);
    assert_eq!(write_static(&bench.network, &[], &bench.places)?, Change::None);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_network_that_is_forgotten() -> Result {
    let bench = bench()?;
    fs::write(Folder::of(&bench.network, &bench.places).leases(), "1 52:54:00:00:00:01 10.0.1.200 * *\n")?;
    forget(&bench.network.name, &bench.places)?;
    assert!(!bench.places.dns(&bench.network.name).exists());
    // Again is fine.
    forget(&bench.network.name, &bench.places)?;
    Ok(())
}

#[test]
fn a_link_is_followed_to_what_may_not_be_there_yet() -> Result {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("etc"))?;
    std::os::unix::fs::symlink("../run/./stub.conf", at("etc/resolv.conf"))?;
    assert_eq!(target(&at("etc/resolv.conf")), at("run/stub.conf"));
    assert_eq!(target(&at("etc/plain.conf")), at("etc/plain.conf"));
    std::os::unix::fs::symlink("round.conf", at("etc/round.conf"))?;
    assert_eq!(target(&at("etc/round.conf")), at("etc/round.conf"));
    Ok(())
}

#[test]
fn one_that_follows_a_folder_that_is_gone_counts_as_old() -> Result {
    let bench = bench()?;
    let own = Folder::of(&bench.network, &bench.places);
    for role in Role::ALL {
        fs::write(own.path().join(format!("{}-1.pid", role.stem())), "1")?;
    }
    let _ = write_static(&bench.network, &[], &bench.places)?;
    for (folder, role) in [(own.reservations(), Role::Addresses), (own.hosts(), Role::Names)] {
        assert_eq!(own.pid_files(role)?.len(), 1);
        fs::remove_dir_all(folder)?;
        let _ = write_static(&bench.network, &[], &bench.places)?;
        assert_eq!(own.pid_files(role)?, Vec::<PathBuf>::new());
    }
    Ok(())
}
