//! The zones in which a subnet's addresses are asked back for their names.

use std::net::IpAddr;

use ipnet::IpNet;

/// The zones under `in-addr.arpa` (RFC 1035, section 3.5) or `ip6.arpa` (RFC 3596, section 2.5) that
/// make up a subnet: one, or several where its prefix ends within a label.
pub(super) fn of_subnet(subnet: IpNet) -> Vec<String> {
    let step = if matches!(subnet, IpNet::V4(_)) { 8 } else { 4 };
    let whole = subnet.prefix_len().div_ceil(step) * step;
    let Ok(parts) = subnet.subnets(whole) else { return Vec::new() };
    parts
        .map(|part| {
            let labels = usize::from(whole / step);
            let mut digits: Vec<String> = match part.network() {
                IpAddr::V4(a) => a.octets().iter().map(u8::to_string).collect(),
                IpAddr::V6(a) => {
                    a.octets().iter().flat_map(|o| [o >> 4, o & 15]).map(|n| format!("{n:x}")).collect()
                }
            };
            digits.truncate(labels);
            digits.reverse();
            let root = if part.network().is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
            format!("{}.{root}", digits.join("."))
        })
        .collect()
}

/// The name under which an address is asked back for its own.
#[must_use]
pub fn name_of(address: IpAddr) -> String {
    of_subnet(IpNet::from(address)).into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    #[test]
    fn reverse_zones_cover_the_subnet_and_no_more() -> Result {
        let zones = |net: &str| -> Result<Vec<String>> { Ok(of_subnet(net.parse()?)) };
        assert_eq!(zones("10.0.1.0/24")?, ["1.0.10.in-addr.arpa"]);
        assert_eq!(zones("10.0.0.0/15")?, ["0.10.in-addr.arpa", "1.10.in-addr.arpa"]);
        assert_eq!(zones("10.0.1.8/31")?, ["8.1.0.10.in-addr.arpa", "9.1.0.10.in-addr.arpa"]);
        assert_eq!(zones("fd00:1::/64")?, ["0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(zones("fd00::/50")?.len(), 4);
        assert_eq!(name_of("10.0.1.7".parse()?), "7.1.0.10.in-addr.arpa");
        Ok(())
    }
}
