//! Which texts are blank.

/// True for an empty text, or one of white space, control and invisible characters only.
pub fn is_blank(text: &str) -> bool {
    let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    text.chars().all(|c| c.is_whitespace() || c.is_control() || invisible(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_control_and_invisible_characters_are_blank() {
        for (text, blank) in [("", true), (" \t\u{feff}", true), ("\0\u{200b}", true), ("0", false), ("a ", false)] {
            assert_eq!(is_blank(text), blank, "{text:?}");
        }
    }
}
