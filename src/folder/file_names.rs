//! The names of a certificate's files.

use crate::pki::sha256;
use crate::store::names::canonical;

/// Maximum length of a name of files without its ending, and the length to which a longer one is cut.
const MAX_LENGTH: usize = 200;
/// The same for `NAME.record`: file systems have names of 255 bytes.
const MAX_RECORD: usize = 248;
const CUT_LENGTH: usize = 150;

/// Returns the name of a certificate's files, without their endings; `None`: the name cannot be one.
///
/// A name cannot lead to another folder: each special character becomes `=` and its bytes in hexadecimal.
/// `_` stands for the `*` of a wildcard. A name that is too long for a file is cut, and a digest of the whole
/// name follows.
pub(super) fn file_of(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with('.') {
        return None;
    }
    let characters: Vec<String> = canonical(name).replace('*', "_").chars().map(encoded).collect();
    let file = characters.concat();
    if file.len() <= MAX_LENGTH {
        return Some(file);
    }
    let mut start = String::new();
    for character in &characters {
        if start.len() + character.len() > CUT_LENGTH {
            break;
        }
        start.push_str(character);
    }
    let digest = hex(&sha256(file.as_bytes()));
    Some(format!("{start}~{}", digest.get(..32).unwrap_or_default()))
}

/// Returns the name whose files these are. Version 0.14.1 of the Python package wrote `%` for `=`.
pub(super) fn name_of(file: &str) -> String {
    match file.strip_prefix("_.") {
        Some(rest) => format!("*.{}", decoded(rest)),
        None => decoded(file),
    }
}

/// Returns the file of a record that is one file, without its ending; `None`: its name is too long.
pub(super) fn record_file(name: &str) -> Option<String> {
    let file: String = name.chars().map(encoded).collect();
    (file.len() <= MAX_RECORD && !file.starts_with('.')).then_some(file)
}

/// Returns the name of the record that has this file.
pub(super) fn decoded(file: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = file.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = rest.get(1..3).filter(|_| matches!(first, b'=' | b'%'));
        let byte = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encoded(c: char) -> String {
    if c.is_ascii_alphanumeric() || "._~:-".contains(c) {
        return c.to_string();
    }
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("={byte:02X}")).collect()
}

/// Returns the bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_files_are_those_of_the_python_package() {
        for (name, file) in [
            ("Example.ORG.", "example.org"),
            ("*.example.org", "_.example.org"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("a/b", "a=2Fb"),
            ("web server", "web=20server"),
        ] {
            assert_eq!(file_of(name).as_deref(), Some(file));
            assert_eq!(canonical(&name_of(file)), canonical(name));
        }
        assert_eq!(file_of(".hidden"), None);
        assert_eq!(file_of(""), None);
        let long = format!("{}.example", "a".repeat(230));
        let file = file_of(&long).unwrap();
        assert_eq!(file.len(), 150 + 1 + 32);
        assert!(file.starts_with("aaa") && file.contains('~'));
    }
}
