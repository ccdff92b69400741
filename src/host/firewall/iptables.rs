//! Reads what `iptables -S` prints (iptables(8)). Pure.

use super::packet::{Chains, Condition, On, Step, Target};

/// The chains of the table that was printed. A line that is not understood is left out.
pub(super) fn parse(text: &str) -> Chains {
    let mut chains = Chains::new();
    for line in text.lines() {
        let words = words(line);
        let mut rest = words.iter().map(String::as_str);
        match (rest.next(), rest.next()) {
            (Some("-P"), Some(chain)) => {
                let drops = rest.next() == Some("DROP");
                chains.entry(chain.to_owned()).or_default().drops = drops;
            }
            (Some("-N"), Some(chain)) => {
                chains.entry(chain.to_owned()).or_default();
            }
            (Some("-A"), Some(chain)) => {
                let step = step(rest);
                chains.entry(chain.to_owned()).or_default().steps.push(step);
            }
            _ => {}
        }
    }
    chains
}

/// Words apart by spaces; a comment is in double quotes, with `\` before a quote in it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            '\\' if quoted => word.extend(characters.next()),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

fn step<'a>(mut words: impl Iterator<Item = &'a str>) -> Step {
    let mut step = Step { conditions: Vec::new(), target: Target::Continue };
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let mut list =
            || -> Vec<String> { words.next().unwrap_or_default().split(',').map(str::to_owned).collect() };
        let on = match word {
            // The name of an extension: its options say what it asks.
            "-m" => {
                list();
                continue;
            }
            "--comment" => {
                list();
                continue;
            }
            "-i" => On::From(list()),
            "-o" => On::To(list()),
            "-p" => On::Protocol(list()),
            "--dport" | "--dports" => ports(&list()),
            "--ctstate" | "--state" => On::State(list().iter().map(|s| s.to_lowercase()).collect()),
            "-s" => {
                list().iter().map(|n| n.parse().ok()).collect::<Option<_>>().map_or(On::Unknown, On::Source)
            }
            "-j" | "-g" => {
                step.target = target(words.next().unwrap_or_default(), word == "-g");
                // What follows are the target's own options.
                break;
            }
            _ => On::Unknown,
        };
        step.conditions.push(Condition { on, negated: std::mem::take(&mut negated) });
    }
    step
}

fn ports(list: &[String]) -> On {
    let range = |text: &String| -> Option<(u16, u16)> {
        match text.split_once(':') {
            Some((a, b)) => Some((a.parse().ok()?, b.parse().ok()?)),
            None => text.parse().ok().map(|p| (p, p)),
        }
    };
    list.iter().map(range).collect::<Option<Vec<_>>>().map_or(On::Unknown, On::Port)
}

fn target(name: &str, goto: bool) -> Target {
    match name {
        "ACCEPT" => Target::Accept,
        "DROP" | "REJECT" => Target::Drop,
        "RETURN" => Target::Return,
        // An extension's name (LOG, MARK) is in capitals as Docker's chains are: one that is no chain is
        // passed over when it is looked up.
        chain if goto => Target::Goto(chain.to_owned()),
        chain => Target::Jump(chain.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Packet, passes};
    use super::*;

    fn packet<'a>(from: Option<&'a str>, to: Option<&'a str>, port: u16) -> Packet<'a> {
        Packet { from, to, protocol: "udp", port: Some(port), source: None, answer: false }
    }

    #[test]
    fn a_dropping_input_with_and_without_an_accept() {
        let closed = "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n\
                      -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                      -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n";
        let dhcp = packet(Some("hybr0"), None, 67);
        assert!(!passes(&parse(closed), "INPUT", &dhcp));
        for accept in [
            "-A INPUT -i hybr0 -j ACCEPT",
            "-A INPUT -i hyb+ -p udp -m multiport --dports 53,67 -j ACCEPT",
            "-A INPUT ! -i eth0 -m comment --comment \"not \\\"from\\\" -j DROP\" -j ACCEPT",
            "-A INPUT -p udp -m udp --dport 60:70 -j ACCEPT",
        ] {
            assert!(passes(&parse(&format!("{closed}{accept}\n")), "INPUT", &dhcp), "{accept}");
        }
        for other in [
            "-A INPUT -i hybr1 -j ACCEPT",
            "-A INPUT -i hybr0 -p tcp -j ACCEPT",
            "-A INPUT -i hybr0 -m set --match-set good src -j ACCEPT",
        ] {
            assert!(!passes(&parse(&format!("{closed}{other}\n")), "INPUT", &dhcp), "{other}");
        }
    }

    #[test]
    fn a_reject_at_the_end_is_a_drop() {
        let text = "-P INPUT ACCEPT\n-A INPUT -p icmp -j ACCEPT\n\
                    -A INPUT -j REJECT --reject-with icmp-host-prohibited\n";
        assert!(!passes(&parse(text), "INPUT", &packet(Some("hybr0"), None, 67)));
    }

    #[test]
    fn docker_lets_out_what_is_on_its_own_network() {
        // Docker 20.10 with a network on hybr0.
        let text = "-P FORWARD DROP\n-N DOCKER\n-N DOCKER-ISOLATION-STAGE-1\n-N DOCKER-USER\n\
                    -A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
                    -A FORWARD -o hybr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                    -A FORWARD -o hybr0 -j DOCKER\n-A FORWARD -i hybr0 ! -o hybr0 -j ACCEPT\n\
                    -A FORWARD -i hybr0 -o hybr0 -j ACCEPT\n\
                    -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n-A DOCKER-USER -j RETURN\n";
        let chains = parse(text);
        assert!(passes(&chains, "FORWARD", &packet(Some("hybr0"), None, 80)));
        assert!(passes(&chains, "FORWARD", &packet(Some("hybr0"), Some("hybr0"), 80)));
        assert!(!passes(&chains, "FORWARD", &packet(None, Some("hybr0"), 80)));
        let answer = Packet { answer: true, ..packet(None, Some("hybr0"), 80) };
        assert!(passes(&chains, "FORWARD", &answer));
        assert!(!passes(&chains, "FORWARD", &packet(Some("hybr1"), None, 80)));
    }

    #[test]
    fn a_ring_of_chains_ends() {
        let text = "-P INPUT ACCEPT\n-N A\n-N B\n-A INPUT -j A\n-A A -j B\n-A B -j A\n";
        assert!(passes(&parse(text), "INPUT", &packet(None, None, 1)));
    }
}
