//! Characters and names, by the letter of XML 1.0 (fifth edition): what we take as XML, libvirt's
//! parser must take too.

/// White space in XML (XML 1.0, production 3).
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// XML 1.0, production 2.
pub(super) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// XML 1.0, productions 4 to 5.
pub(super) fn is_name(name: &str) -> bool {
    let start = |c: char| {
        matches!(c,
            ':' | '_' | 'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
            | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
            | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
    };
    let more = |c: char| matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}');
    let mut chars = name.chars();
    chars.next().is_some_and(start) && chars.all(|c| start(c) || more(c))
}

/// A name with at most one colon, inside (Namespaces in XML 1.0, production 7).
pub(super) fn is_qualified_name(name: &str) -> bool {
    is_name(name)
        && match name.split_once(':') {
            None => true,
            Some((prefix, local)) => is_name(prefix) && is_name(local) && !local.contains(':'),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_standard() {
        for name in ["a", "_a-1.b", "é", "a·b", "x:y", "日本"] {
            assert!(is_qualified_name(name), "{name}");
        }
        for name in ["", "1a", "-a", "a b", "a$", "·a", ":a", "a:", "a:b:c", "a:1", "×", "\u{37e}"] {
            assert!(!is_qualified_name(name), "{name}");
        }
    }

    #[test]
    fn control_characters_and_noncharacters_are_none() {
        assert!(['\t', '\n', '\r', ' ', '\u{85}', '\u{fffd}', '\u{10ffff}'].into_iter().all(is_xml_char));
        assert!(!['\0', '\u{b}', '\u{1f}', '\u{fffe}', '\u{ffff}'].into_iter().any(is_xml_char));
    }
}
