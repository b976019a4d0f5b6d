//! IPv4 address ranges.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A range such as 10.90.1.0/24, with room for a gateway and a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

/// A word that is no usable address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 subnet: want one such as 10.90.1.0/24, with a prefix of 8 to 30")]
pub struct BadSubnet(String);

impl Subnet {
    const fn size(self) -> u32 {
        1 << (32 - self.prefix)
    }

    /// The host's address.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The addresses of containers: all but the first two and the last, which is for broadcasts.
    pub(crate) fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.base + 2..self.base + (self.size() - 1)).map(Ipv4Addr::from)
    }

    pub(crate) fn overlaps(self, other: Subnet) -> bool {
        let shorter = self.prefix.min(other.prefix);
        (self.base ^ other.base) >> (32 - shorter) == 0
    }

    /// The ranges of 256 addresses in it.
    pub(crate) fn parts(self) -> impl Iterator<Item = Subnet> {
        let bases = (self.base..=self.base + (self.size() - 1)).step_by(256);
        bases.map(|base| Subnet { base, prefix: 24 })
    }
}

impl FromStr for Subnet {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Subnet, BadSubnet> {
        let bad = || BadSubnet(text.to_owned());
        let (base, prefix) = text.split_once('/').ok_or_else(bad)?;
        let base = base.parse::<Ipv4Addr>().map_err(|_| bad())?.to_bits();
        let prefix = prefix.parse().map_err(|_| bad())?;
        let subnet = Subnet { base, prefix };
        let is_usable = (8..=30).contains(&prefix) && base & (subnet.size() - 1) == 0;
        is_usable.then_some(subnet).ok_or_else(bad)
    }
}

impl TryFrom<String> for Subnet {
    type Error = BadSubnet;

    fn try_from(text: String) -> Result<Subnet, BadSubnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn gives_its_addresses_out_in_order() {
        let small = subnet("10.1.2.8/29");
        assert_eq!(small.to_string(), "10.1.2.8/29");
        assert_eq!(small.gateway(), Ipv4Addr::new(10, 1, 2, 9));
        let addresses: Vec<_> = small.addresses().map(|a| a.octets()[3]).collect();
        assert_eq!(addresses, [10, 11, 12, 13, 14]);
        assert_eq!(subnet("255.255.255.252/30").addresses().count(), 1);
    }

    #[test]
    fn knows_what_it_overlaps() {
        assert!(subnet("10.1.0.0/16").overlaps(subnet("10.1.9.0/24")));
        assert!(subnet("10.1.9.0/24").overlaps(subnet("10.1.0.0/16")));
        assert!(!subnet("10.1.9.0/24").overlaps(subnet("10.1.8.0/24")));
    }

    #[test]
    fn is_divided_into_parts() {
        let parts: Vec<_> = subnet("10.1.4.0/23").parts().map(|p| p.to_string()).collect();
        assert_eq!(parts, ["10.1.4.0/24", "10.1.5.0/24"]);
        assert_eq!(subnet("255.255.0.0/16").parts().count(), 256);
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/31", "10.0.0.0/7", "::/64", "a/8"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
