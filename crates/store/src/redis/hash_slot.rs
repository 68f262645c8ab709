//! Which of a cluster's slots a hash tag falls into.

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of all keys with this hash tag: its CRC-16/XMODEM.
pub(super) fn of(tag: &str) -> u16 {
    tag.bytes().fold(0, step) % SLOTS
}

/// One byte more; the polynomial is 0x1021.
fn step(crc: u16, byte: u8) -> u16 {
    // What the top byte adds is linear in its bits, and 0x1021 has so few that shifts will do.
    let mut top = (crc >> 8) ^ u16::from(byte);
    top ^= top >> 4;
    (crc << 8) ^ (top << 12) ^ (top << 5) ^ top
}

/// A hash tag of this slot; always the same one.
pub(super) fn tag(slot: u16) -> String {
    // One number in 16,384 will do; the first is found before a million are tried.
    let found = (0..1_000_000).map(|number| format!("safeconduct-{number}")).find(|tag| of(tag) == slot % SLOTS);
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ::redis::cluster_routing::Slot;

    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(of("123456789"), 0x31c3);
        for tag in ["", "a", "safeconduct", "8f14e45fceea167a5a36dedd4bea2543"] {
            assert_eq!(Slot::new(of(tag)), Some(Slot::for_key(tag)), "{tag}");
        }
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in [0, 1, 5_461, 8_191, 10_922, 16_383] {
            assert_eq!(of(&tag(slot)), slot);
        }
    }
}
