//! What is printed: plain text, whatever names there are in it, and an error where it cannot be printed.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use naive_ptq::text::escaped;

/// Prints a line, or several.
pub fn line(text: fmt::Arguments) -> io::Result<()> {
    let text = text.to_string() + "\n";
    io::stdout().write_all(plain(&text).as_bytes())
}

/// `text` without characters that steer a terminal, but for ends of lines and tabs. What stands for them is
/// the same in a JSON string.
pub fn plain(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| matches!(c, ' '..='~' | '\n' | '\t');
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        let (mut utf8, mut utf16) = ([0; 4], [0; 2]);
        if is_plain(c)
            || matches!(escaped(c.encode_utf8(&mut utf8)), Cow::Owned(s) if s.starts_with(c))
        {
            shown.push(c);
        } else {
            c.encode_utf16(&mut utf16).iter().for_each(|unit| shown += &format!("\\u{unit:04x}"));
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_characters_stay_readable_in_text_and_json() {
        let name = "a\x1b[31m\u{202e}\u{2028}\u{7f}Größe 卷积 \u{e0001}\r\n\"";
        let text = plain(name);
        assert_eq!(text, "a\\u001b[31m\\u202e\\u2028\\u007fGröße 卷积 \\udb40\\udc01\\u000d\n\"");
        let json = serde_json::to_string(name).unwrap();
        let back: String = serde_json::from_str(&plain(&json)).unwrap();
        assert_eq!(back, name);
        assert_eq!(plain("plain"), "plain");
    }
}
