//! Text from outside: made safe for logs and messages, and what it is.

/// Returns text from outside for one line of a log: escapes control characters and marks that
/// change the writing direction, and cuts the text after `max` bytes.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::new();
    for c in text.chars() {
        let whole = out.len();
        if hidden(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        if out.len() > max {
            out.truncate(whole);
            out.push('…');
            break;
        }
    }
    out
}

/// Whether data has a PEM block in it (RFC 7468).
pub(crate) fn is_pem(data: &[u8]) -> bool {
    data.windows(11).any(|window| window == b"-----BEGIN ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p04_text_is_cut_by_what_it_takes_up() {
        assert_eq!(printable("ééé", 4), "éé…");
        assert_eq!(printable("éé", 4), "éé");
        assert_eq!(printable("\u{1b}\u{1b}", 10), r"\u{1b}…");
        assert_eq!(printable("", 0), "");
    }
}
