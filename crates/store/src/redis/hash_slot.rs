//! Which of a cluster's slots a hash tag falls into.

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM of each byte.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The slot of all keys with this hash tag.
pub(super) fn of(tag: &str) -> u16 {
    let step = |crc: u16, byte: u8| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ TABLE.get(usize::from(high ^ byte)).copied().unwrap_or_default()
    };
    tag.bytes().fold(0, step) % SLOTS
}

/// A hash tag of this slot; always the same one.
pub(super) fn tag(slot: u16) -> String {
    // One number in 16,384 will do; the first is found before a million are tried.
    let found = (0_u32..).map(|number| format!("safeconduct-{number}")).find(|tag| of(tag) == slot % SLOTS);
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
        for slot in [0, 1, 8_191, 16_383] {
            assert_eq!(of(&tag(slot)), slot);
        }
    }
}
