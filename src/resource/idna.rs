//! International names to names in DNS: U-labels to A-labels.
//!
//! RFC 5891, RFC 3492 (Punycode). The tables of full Unicode processing (UTS 46) are larger than the
//! rest of this library. So this code does the part that registered names need: letters become lower
//! case, and a name that needs normalization is refused with a hint.

/// Parameters of Punycode; RFC 3492 section 5.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 128;

/// Returns the A-label of a label; ASCII only becomes lower case. The error says what is wrong with the
/// label.
pub(super) fn to_ascii(label: &str) -> Result<String, &'static str> {
    if label.is_ascii() {
        return Ok(label.to_ascii_lowercase());
    }
    // Each character on its own, as in UTS 46: a sigma at the end has no special form.
    let lower: String = label.chars().flat_map(char::to_lowercase).collect();
    for c in lower.chars() {
        check(c)?;
    }
    if lower.starts_with('-') || lower.ends_with('-') || lower.get(2..4) == Some("--") {
        return Err("has hyphens where an international name cannot have them");
    }
    Ok(format!("xn--{}", punycode(&lower).ok_or("is too long")?))
}

fn check(c: char) -> Result<(), &'static str> {
    match c {
        'a'..='z' | '0'..='9' | '-' => Ok(()),
        '\u{300}'..='\u{36f}' => {
            Err("has a combining accent; write the letter as one character (NFC)")
        }
        // Compatibility forms: full-width letters, ligatures, circled and mathematical letters.
        '\u{2100}'..='\u{2bff}'
        | '\u{fb00}'..='\u{fb06}'
        | '\u{ff00}'..='\u{ffef}'
        | '\u{1d400}'..='\u{1d7ff}'
        | '\u{3200}'..='\u{33ff}' => {
            Err("has a character in a compatibility form; write the plain one")
        }
        // Marks of Indic scripts and their joiners are allowed, but are not "alphanumeric".
        '\u{900}'..='\u{dff}' | '\u{200c}' | '\u{200d}' | '\u{b7}' | '\u{30fb}' => Ok(()),
        c if c.is_alphanumeric() && !c.is_ascii() => Ok(()),
        _ => Err("has a character that a name cannot have"),
    }
}

/// Encodes a label; RFC 3492 section 6.3. `None`: overflow.
fn punycode(label: &str) -> Option<String> {
    let mut output: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(output.len()).ok()?;
    if basic > 0 {
        output.push('-');
    }
    let length = u32::try_from(label.chars().count()).ok()?;
    let (mut n, mut delta, mut bias, mut handled) = (INITIAL_N, 0u32, INITIAL_BIAS, basic);
    while handled < length {
        let next = label.chars().map(u32::from).filter(|c| *c >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for c in label.chars().map(u32::from) {
            if c < n {
                delta = delta.checked_add(1)?;
            }
            if c == n {
                encode(delta, bias, &mut output);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(output)
}

/// One delta as a generalized variable-length integer, RFC 3492 section 3.3.
fn encode(delta: u32, bias: u32, output: &mut String) {
    let (mut q, mut k) = (delta, BASE);
    loop {
        let t = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if q < t {
            output.push(digit(q));
            return;
        }
        output.push(digit(t + (q - t) % (BASE - t)));
        q = (q - t) / (BASE - t);
        k += BASE;
    }
}

/// 0 to 25 are a to z, 26 to 35 are 0 to 9.
fn digit(value: u32) -> char {
    char::from_digit((value + 10) % BASE, BASE).unwrap_or('?')
}

/// RFC 3492 section 6.1.
fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = delta / if first { DAMP } else { 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names() {
        for (u, a) in [
            ("example", "example"),
            ("EXAMPLE", "example"),
            ("bücher", "xn--bcher-kva"),
            ("BÜCHER", "xn--bcher-kva"),
            ("faß", "xn--fa-hia"),
            ("пример", "xn--e1afmkfd"),
            ("例え", "xn--r8jz45g"),
            ("中国", "xn--fiqs8s"),
            ("한국", "xn--3e0b707e"),
            ("भारत", "xn--h2brj9c"),
            ("ليهمابتكلموشعربي", "xn--mgbcah9ar9a4efegftvvn"),
            // RFC 3492 section 7.1.
            ("почемужеонинеговорятпорусски", "xn--b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("3年b組金八先生", "xn--3b-ww4c5e180e575a65lsy2b"),
        ] {
            assert_eq!(to_ascii(u).as_deref(), Ok(a), "{u}");
        }
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            "bu\u{308}cher",
            "ｅｘａｍｐｌｅ",
            "ﬁsh",
            "a b\u{e4}",
            "\u{202e}abc",
            "ä_b",
            "☃",
            "-ä",
            "ab--ä",
        ] {
            assert!(to_ascii(bad).is_err(), "{bad:?}");
        }
    }
}
