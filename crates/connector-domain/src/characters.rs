//! Characters that a reader does not see, or that change how the others are read.

/// Why a character has no place in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hidden {
    /// It controls a terminal or a printer, or ends a line.
    Control,
    /// It changes the direction of the text around it.
    Bidi,
    /// It takes no room, so that two texts look the same.
    ZeroWidth,
}

/// Why this character has no place in plain text, if it has none.
pub(crate) const fn hidden(c: char) -> Option<Hidden> {
    match c {
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => {
            Some(Hidden::Control)
        }
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some(Hidden::Bidi),
        // Soft hyphen, joiners, fillers, the byte order mark, tags, and the selectors that can carry hidden bytes.
        '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}' => Some(Hidden::ZeroWidth),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_does_not_see_is_found() {
        for (c, expected) in [
            ('\0', Hidden::Control),
            ('\n', Hidden::Control),
            ('\u{1b}', Hidden::Control),
            ('\u{85}', Hidden::Control),
            ('\u{202e}', Hidden::Bidi),
            ('\u{2069}', Hidden::Bidi),
            ('\u{200b}', Hidden::ZeroWidth),
            ('\u{feff}', Hidden::ZeroWidth),
            ('\u{e0041}', Hidden::ZeroWidth),
        ] {
            assert_eq!(hidden(c), Some(expected), "{c:?}");
        }
        for c in "aé 漢字ßÅ€😀-–'’".chars() {
            assert_eq!(hidden(c), None, "{c:?}");
        }
    }
}
