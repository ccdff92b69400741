//! ARP probes (RFC 5227).

use std::net::Ipv4Addr;

use crate::model::MacAddress;

/// Ethernet header (14 bytes) and ARP for Ethernet and IPv4 (28 bytes, RFC 826).
const FRAME: usize = 42;
/// EtherType of ARP.
pub(super) const ETHERTYPE: u16 = 0x0806;

/// RFC 5227, section 1.1: a broadcast request whose sender address is all zeros, so that it fills
/// nobody's cache, and whose target is the address in question.
pub(super) fn frame(source: MacAddress, address: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0_u8; FRAME];
    let parts: [&[u8]; 11] = [
        &[0xff; 6],
        &source.octets(),
        &ETHERTYPE.to_be_bytes(),
        &[0, 1],       // hardware: Ethernet
        &[0x08, 0x00], // protocol: IPv4
        &[6, 4],       // lengths of their addresses
        &[0, 1],       // request
        &source.octets(),
        &Ipv4Addr::UNSPECIFIED.octets(),
        &[0; 6],
        &address.octets(),
    ];
    for (to, from) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    frame
}

/// Who claims `address` by this frame, if it is an ARP packet that does: of whoever sends any ARP with that
/// address as its own, or of another prober for it (RFC 5227, section 2.1.1).
pub(super) fn claimed(frame: &[u8], address: Ipv4Addr) -> Option<MacAddress> {
    Arp::parse(frame)?.claims(address)
}

/// What an ARP packet says, as far as we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arp {
    request: bool,
    sender: MacAddress,
    sender_address: Ipv4Addr,
    target_address: Ipv4Addr,
}

impl Arp {
    /// Reads an Ethernet frame; `None` for anything but a whole ARP request or reply for Ethernet and
    /// IPv4 with a sender that can be a host's. What follows it (padding) is not looked at.
    fn parse(frame: &[u8]) -> Option<Self> {
        let bytes = frame.get(12..FRAME)?;
        let (head, body) = bytes.split_at_checked(10)?;
        let [0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, operation] = *head else { return None };
        let request = match operation {
            1 => true,
            2 => false,
            _ => return None,
        };
        let (sender, body) = body.split_first_chunk::<6>()?;
        let (sender_address, body) = body.split_first_chunk::<4>()?;
        let target_address = body.get(6..)?.first_chunk::<4>()?;
        Some(Self {
            request,
            sender: MacAddress::from_octets(*sender)?,
            sender_address: Ipv4Addr::from(*sender_address),
            target_address: Ipv4Addr::from(*target_address),
        })
    }

    /// Who claims `address` by this packet, if anybody does: its sender has it as its own, or probes
    /// for it.
    fn claims(&self, address: Ipv4Addr) -> Option<MacAddress> {
        let has = self.sender_address == address && !address.is_unspecified();
        let probes = self.request && self.sender_address.is_unspecified() && self.target_address == address;
        (has || probes).then_some(self.sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, Result};
    use proptest::prelude::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 200);

    fn mac(last: u8) -> Result<MacAddress> {
        MacAddress::from_octets([0x52, 0x54, 0, 0, 0, last]).ok_or_else(|| Fault::failed("no MAC"))
    }

    /// A probe with other bytes at `at`.
    fn with(at: usize, bytes: &[u8]) -> Result<[u8; FRAME]> {
        let mut frame = super::frame(mac(1)?, ADDRESS);
        for (to, from) in frame.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        Ok(frame)
    }

    #[test]
    fn a_probe_is_rfc_5227s_packet_byte_for_byte() -> Result<()> {
        let frame = super::frame(mac(1)?, ADDRESS);
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        let expected = "ffffffffffff 525400000001 0806 \
            0001 0800 06 04 0001 525400000001 00000000 000000000000 0a0001c8";
        assert_eq!(hex, expected.replace(' ', ""));
        Ok(())
    }

    #[test]
    fn a_sender_with_the_address_claims_it_in_request_and_reply() -> Result<()> {
        let own = ADDRESS.octets();
        for operation in [1, 2] {
            let mut frame = with(28, &own)?;
            frame[21] = operation;
            // It asks for, or answers, somebody else.
            frame[38..42].copy_from_slice(&[10, 0, 1, 7]);
            assert_eq!(Arp::parse(&frame).and_then(|a| a.claims(ADDRESS)), Some(mac(1)?));
        }
        Ok(())
    }

    #[test]
    fn another_probe_for_it_claims_it_and_an_ordinary_question_does_not() -> Result<()> {
        let probe = with(0, &[])?;
        assert_eq!(Arp::parse(&probe).and_then(|a| a.claims(ADDRESS)), Some(mac(1)?));
        assert_eq!(Arp::parse(&probe).and_then(|a| a.claims(Ipv4Addr::new(10, 0, 1, 201))), None);
        // 10.0.1.7 asks who has it.
        let question = with(28, &[10, 0, 1, 7])?;
        assert_eq!(Arp::parse(&question).and_then(|a| a.claims(ADDRESS)), None);
        // A reply from 0.0.0.0 is nonsense.
        assert_eq!(Arp::parse(&with(20, &[0, 2])?).and_then(|a| a.claims(ADDRESS)), None);
        Ok(())
    }

    #[test]
    fn hostile_and_truncated_packets_say_nothing() -> Result<()> {
        let good = with(28, &ADDRESS.octets())?;
        for length in 0..FRAME {
            assert_eq!(good.get(..length).and_then(Arp::parse), None, "{length} bytes");
        }
        for (at, bytes) in [
            (12, &[0x08, 0x00][..]), // IPv4, not ARP
            (14, &[0, 6]),           // another hardware
            (16, &[0x86, 0xdd]),     // another protocol
            (18, &[255, 255]),       // lengths that lie
            (18, &[6, 16]),
            (20, &[1, 1]), // an operation of two bytes
            (20, &[0, 9]),
            (22, &[0xff; 6]), // a broadcast sender
            (22, &[0; 6]),
            (22, &[0x01, 0, 0x5e, 0, 0, 1]),
        ] {
            assert_eq!(Arp::parse(&with(at, bytes)?), None, "{at} {bytes:?}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Arp::parse(&bytes).and_then(|a| a.claims(ADDRESS));
        }
    }
}
