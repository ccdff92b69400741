//! The whole command line in one snapshot: a change of it shows.

use super::Outcome;
use super::host::Host;

#[test]
fn the_help_of_every_command() -> Outcome {
    let host = Host::bare()?;
    let mut text = String::new();
    let mut paths: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        let help = host.ok(&args)?;
        text += &format!("$ hybrid-hook {}\n{help}\n", args.join(" "));
        let mut commands: Vec<Vec<String>> = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| line.starts_with("  "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(|name| path.iter().cloned().chain([name.to_owned()]).collect())
            .collect();
        commands.reverse();
        paths.extend(commands);
    }
    insta::assert_snapshot!(text);
    Ok(())
}

#[test]
fn the_version_is_the_package_s() -> Outcome {
    let host = Host::bare()?;
    assert_eq!(host.ok(&["--version"])?, format!("hybrid-hook {}\n", env!("CARGO_PKG_VERSION")));
    Ok(())
}

#[test]
fn what_no_option_names_is_wrong_usage() -> Outcome {
    let host = Host::new()?;
    for args in [&["leases", "--nonsense"][..], &["network"], &[], &["claim", "--mac"]] {
        let ran = host.run(args)?;
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.out.is_empty());
    }
    Ok(())
}
