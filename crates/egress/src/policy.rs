//! Which addresses may be called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address that a policy has let pass. Only [`AddressPolicy::check`] makes one, and only to one is a socket opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicAddress(SocketAddr);

impl PublicAddress {
    /// The address to connect to.
    pub const fn socket(self) -> SocketAddr {
        self.0
    }
}

/// An address that must not be called, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream's address is {what}; if that is meant, list its network under `allow_addresses` of the upstream")]
pub struct RefusedAddress {
    /// What kind of address it is.
    pub what: &'static str,
}

/// Public addresses, and the networks that the workspace has opted in to for one upstream.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

impl AddressPolicy {
    /// Public addresses and these networks.
    pub const fn allowing(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Checks one address.
    pub fn check(&self, address: SocketAddr) -> Result<PublicAddress, RefusedAddress> {
        if self.allowed.iter().any(|network| network.contains(&address.ip())) {
            return Ok(PublicAddress(address));
        }
        match special_purpose(address.ip()) {
            None => Ok(PublicAddress(address)),
            Some(what) => Err(RefusedAddress { what }),
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IANA IPv4 Special-Purpose Address Registry, multicast (RFC 5771), and the platform address of one cloud.
const SPECIAL_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "in \"this network\" (RFC 791)"),
    (v4(10, 0, 0, 0, 8), "private (RFC 1918)"),
    (v4(100, 64, 0, 0, 10), "shared address space (RFC 6598)"),
    (v4(127, 0, 0, 0, 8), "loopback (RFC 1122)"),
    (v4(168, 63, 129, 16, 32), "a cloud platform's own address"),
    (v4(169, 254, 0, 0, 16), "link-local, where metadata services live (RFC 3927)"),
    (v4(172, 16, 0, 0, 12), "private (RFC 1918)"),
    (v4(192, 0, 0, 0, 24), "reserved for protocol assignments (RFC 6890)"),
    (v4(192, 0, 2, 0, 24), "for documentation (RFC 5737)"),
    (v4(192, 31, 196, 0, 24), "an AS112 sink (RFC 7535)"),
    (v4(192, 52, 193, 0, 24), "for automatic multicast tunneling (RFC 7450)"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay (RFC 7526)"),
    (v4(192, 168, 0, 0, 16), "private (RFC 1918)"),
    (v4(192, 175, 48, 0, 24), "an AS112 sink (RFC 7534)"),
    (v4(198, 18, 0, 0, 15), "for benchmarks (RFC 2544)"),
    (v4(198, 51, 100, 0, 24), "for documentation (RFC 5737)"),
    (v4(203, 0, 113, 0, 24), "for documentation (RFC 5737)"),
    (v4(224, 0, 0, 0, 4), "multicast (RFC 5771)"),
    (v4(240, 0, 0, 0, 4), "reserved (RFC 1112)"),
];

/// IANA IPv6 Special-Purpose Address Registry, inside the only block that is assigned for global unicast.
const SPECIAL_V6: &[(Ipv6Net, &str)] = &[
    (v6(0x2001, 0, 0, 23), "reserved for protocol assignments, Teredo among them (RFC 2928)"),
    (v6(0x2001, 0xdb8, 0, 32), "for documentation (RFC 3849)"),
    (v6(0x2002, 0, 0, 16), "6to4, which carries an IPv4 address (RFC 3056)"),
    (v6(0x2620, 0x4f, 0x8000, 48), "an AS112 sink (RFC 7534)"),
    (v6(0x3fff, 0, 0, 20), "for documentation (RFC 9637)"),
];

/// Everything else (loopback, link-local, unique-local, IPv4-mapped and -compatible, NAT64, multicast, `fec0::/10`)
/// lies outside this block and needs no row.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 3);

fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => SPECIAL_V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, what)| *what),
        IpAddr::V6(address) if !GLOBAL_UNICAST.contains(&address) => {
            Some("not a global unicast address (RFC 4291): loopback, local, mapped, translated or multicast")
        }
        IpAddr::V6(address) => SPECIAL_V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, what)| *what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &AddressPolicy, ip: &str) -> Result<PublicAddress, RefusedAddress> {
        policy.check(SocketAddr::new(ip.parse().unwrap(), 443))
    }

    #[test]
    fn special_purpose_addresses_are_refused() {
        let cases = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2620:4f:8000::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for ip in cases {
            assert!(check(&AddressPolicy::default(), ip).is_err(), "{ip} must be refused");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(check(&AddressPolicy::default(), ip).is_ok(), "{ip} must pass");
        }
    }

    #[test]
    fn an_opt_in_opens_its_network_and_no_other() {
        let policy = AddressPolicy::allowing(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(check(&policy, "127.0.0.1").is_ok());
        assert!(check(&policy, "::ffff:127.0.0.1").is_err(), "the embedded form is another address");
        assert!(check(&policy, "10.0.0.1").is_err());
    }
}
