//! What comes out of a file as text for a terminal: no character that steers it, and not too long.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Characters of a name that are shown.
const NAME: usize = 80;
/// Characters of a message, whose lists might be long.
const MESSAGE: usize = 1000;

/// A name as it can be shown in a line of text: [`escaped`], and cut in the middle where it is longer than
/// some 80 characters.
pub fn printable(name: &str) -> Cow<'_, str> {
    let cut = (name.len() > NAME).then(|| name.char_indices().nth(NAME)).flatten();
    match cut.and_then(|_| Some((name.char_indices().nth(60)?, name.char_indices().nth_back(18)?)))
    {
        Some(((head, _), (tail, _))) => {
            Cow::Owned(format!("{}…{}", escaped(&name[..head]), escaped(&name[tail..])))
        }
        None => escaped(name),
    }
}

/// `text` with every character escaped that is not one to be seen: line feeds, those that begin a command
/// to the terminal or turn the direction of writing, and the like.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match c {
        '"' | '\'' | '\\' => (Some(c), None),
        _ => (None, Some(c.escape_debug())),
    };
    let characters = text.chars().map(escape);
    Cow::Owned(characters.flat_map(|(c, e)| c.into_iter().chain(e.into_iter().flatten())).collect())
}

/// The text of `arguments`, each of them [`printable`]; `format` is what stands between them.
pub(crate) fn message(format: &str, arguments: fmt::Arguments) -> String {
    let mut message = Message { format, text: String::new(), room: MESSAGE };
    if message.write_fmt(arguments).is_err() {
        message.text.push('…');
    }
    message.text
}

struct Message<'a> {
    format: &'a str,
    text: String,
    room: usize,
}

impl Write for Message<'_> {
    /// Called for each argument, and for each piece of the format.
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let known = piece.len() > NAME && self.format.contains(piece);
        let piece = if known { Cow::Borrowed(piece) } else { printable(piece) };
        self.room = self.room.checked_sub(piece.len()).ok_or(fmt::Error)?;
        self.text.push_str(&piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_steers_the_terminal() {
        for c in '\0'..=char::MAX {
            let text = c.to_string();
            let shown = escaped(&text);
            let steers = c.is_control()
                || matches!(c, '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}')
                || matches!(c, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}');
            assert!(!(steers && shown.contains(c)), "{:x}", c as u32);
            assert_eq!(escaped(&shown), shown, "escaped twice: {:x}", c as u32);
        }
        assert_eq!(escaped("a\nb\r\x1b[31m\u{202e}"), r"a\nb\r\u{1b}[31m\u{202e}");
        assert_eq!(escaped(r#"Größe "x\y" 卷积"#), r#"Größe "x\y" 卷积"#);
    }

    #[test]
    fn long_names_are_cut_in_the_middle() {
        let name = |n: usize| "äb".repeat(n / 2);
        assert_eq!(printable(&name(80)), name(80));
        let long = name(1_000_000) + "end";
        let shown = printable(&long);
        assert_eq!(shown.chars().count(), 80);
        assert!(shown.starts_with("äbäb") && shown.contains('…') && shown.ends_with("bend"));
    }

    #[test]
    fn messages_are_short_however_long_what_they_name() {
        let name = "n".repeat(1 << 20) + "\n";
        let list = vec![1; 1 << 20];
        let text = message("\"{}\" of {:?}", format_args!("\"{name}\" of {list:?}"));
        assert!(text.starts_with("\"nnn") && text.contains("n\\n\" of [1, 1, "), "{text}");
        assert!(text.len() < 1010 && text.ends_with('…'), "{text}");
        // What we say ourselves is never cut.
        const OURS: &str = "said at length, with many words that each of them has to be there, to be understood by him who reads";
        assert_eq!(message(OURS, format_args!("{}", OURS)), OURS);
    }
}
