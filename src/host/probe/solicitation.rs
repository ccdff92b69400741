//! Neighbour solicitations (RFC 4861, section 4.3).
//!
//! It is the ordinary question, sent from the bridge's link-local address, not the one of duplicate address
//! detection (RFC 4862, section 5.4.2), whose sender is the unspecified address: a guest that is about to
//! take the address up would hear that as somebody else doing the same, and give it up for good (section
//! 5.4.3). We only ask. A bridge without a link-local address has no other way than that one.

use std::net::Ipv6Addr;

use crate::model::MacAddress;

/// EtherType of IPv6.
pub(super) const ETHERTYPE: u16 = 0x86dd;
/// The headers of Ethernet and IPv6.
const HEADERS: usize = 14 + 40;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Only what comes from the same link still has it (RFC 4861, section 7.1).
const HOP_LIMIT: u8 = 255;

/// The question for `target`, to the group of those whose addresses end like it (RFC 4291, section 2.7.1).
pub(super) fn frame(own: MacAddress, source: Option<Ipv6Addr>, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if source.is_some() {
        // The sender's Ethernet address, for whoever answers; not allowed without a source.
        message.extend([1, 1]);
        message.extend(own.octets());
    }
    let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
    let sum = checksum(source, group, &message).to_be_bytes();
    for (to, from) in message.iter_mut().skip(2).zip(sum) {
        *to = from;
    }
    let length = u16::try_from(message.len()).unwrap_or_default();
    let mut frame = vec![0x33, 0x33, 0xff, a, b, c];
    frame.extend(own.octets());
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// RFC 8200, section 8.1.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or_default();
    let pseudo = [&source.octets()[..], &destination.octets(), &length.to_be_bytes(), &[0, 0, 0, ICMPV6]];
    let bytes: Vec<u8> = pseudo.into_iter().flatten().chain(message).copied().collect();
    let words = bytes.chunks(2).map(|w| match *w {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Who claims `address` by this frame: whoever advertises it as its own, or asks for it before taking it up.
///
/// Checksums are not looked at: a guest may leave them to its network card, and that to us.
pub(super) fn claimed(frame: &[u8], address: Ipv6Addr) -> Option<MacAddress> {
    let (headers, message) = frame.split_at_checked(HEADERS)?;
    let (ethernet, ip) = headers.split_at_checked(14)?;
    let (
        [_, _, _, _, _, _, sender @ .., 0x86, 0xdd],
        [0x60..=0x6f, _, _, _, _, _, ICMPV6, HOP_LIMIT, addresses @ ..],
    ) = (ethernet, ip)
    else {
        return None;
    };
    let [kind, 0, _, _, _, _, _, _, target @ ..] = message else { return None };
    let is_asked_for = addresses.first_chunk::<16>()? == &Ipv6Addr::UNSPECIFIED.octets();
    let claims = match *kind {
        ADVERTISEMENT => true,
        SOLICITATION => is_asked_for,
        _ => false,
    };
    let sender = MacAddress::from_octets(*sender.first_chunk::<6>()?)?;
    (claims && target.first_chunk::<16>()? == &address.octets()).then_some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, Result};
    use proptest::prelude::*;

    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0xc8);
    const OURS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    fn mac(last: u8) -> Result<MacAddress> {
        MacAddress::from_octets([0x52, 0x54, 0, 0, 0, last]).ok_or_else(|| Fault::failed("no MAC"))
    }

    /// What another host sends about the address, from `source`.
    fn heard(kind: u8, source: Ipv6Addr) -> Result<Vec<u8>> {
        let frame = super::frame(mac(2)?, Some(source).filter(|s| !s.is_unspecified()), ADDRESS);
        Ok(with(&frame, HEADERS, kind))
    }

    fn with(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
        frame.iter().enumerate().map(|(i, b)| if i == at { byte } else { *b }).collect()
    }

    #[test]
    fn a_question_is_rfc_4861s_packet_byte_for_byte() -> Result<()> {
        let hex = |frame: &[u8]| frame.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let expected = "3333ff0000c8 525400000001 86dd 60000000 0020 3aff \
            fe800000000000000000000000000001 ff0200000000000000000001ff0000c8 \
            8700 SUM 00000000 fd0000010000000000000000000000c8 0101 525400000001";
        let frame = super::frame(mac(1)?, Some(OURS), ADDRESS);
        let message = frame.get(HEADERS..).unwrap_or_default();
        let sum = hex(message.get(2..4).unwrap_or_default());
        assert_eq!(hex(&frame), expected.replace("SUM", &sum).replace(' ', ""));
        // With the sum in its place the whole adds up to nothing.
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x00c8);
        assert_eq!(checksum(OURS, group, message), 0);
        // Without a source there is no room for an Ethernet address.
        assert_eq!(super::frame(mac(1)?, None, ADDRESS).len(), HEADERS + 24);
        Ok(())
    }

    #[test]
    fn an_advertisement_and_another_that_wants_it_claim_it() -> Result<()> {
        assert_eq!(claimed(&heard(ADVERTISEMENT, ADDRESS)?, ADDRESS), Some(mac(2)?));
        assert_eq!(claimed(&heard(SOLICITATION, Ipv6Addr::UNSPECIFIED)?, ADDRESS), Some(mac(2)?));
        // Somebody only asks who has it.
        assert_eq!(claimed(&heard(SOLICITATION, OURS)?, ADDRESS), None);
        assert_eq!(claimed(&heard(ADVERTISEMENT, ADDRESS)?, OURS), None);
        Ok(())
    }

    #[test]
    fn hostile_and_truncated_packets_say_nothing() -> Result<()> {
        let good = heard(ADVERTISEMENT, ADDRESS)?;
        for length in 0..HEADERS + 24 {
            assert_eq!(good.get(..length).and_then(|f| claimed(f, ADDRESS)), None, "{length} bytes");
        }
        for (at, byte) in [
            (6, 1),            // a group's address as the sender's
            (12, 0x08),        // not IPv6
            (14, 0x40),        // another version
            (20, 6),           // TCP
            (21, 254),         // from beyond the link
            (HEADERS, 134),    // a router's advertisement
            (HEADERS + 1, 1),  // a code that there is not
            (HEADERS + 23, 1), // another target
        ] {
            assert_eq!(claimed(&with(&good, at, byte), ADDRESS), None, "{byte} at {at}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = claimed(&bytes, ADDRESS);
        }
    }
}
