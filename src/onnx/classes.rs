//! What a file calls the classes, in whichever form it was written.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Where names of classes are found.
const KEYS: [&str; 5] = ["names", "classes", "labels", "class_names", "id2label"];

/// The names of the classes in a file's metadata, by number; none if it has none.
///
/// They are a dictionary or a list as Python or JSON has them (`{0: 'person', 1: 'car'}`), or stand in lines of their own
/// or between commas.
pub fn classes(metadata: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = KEYS.iter().filter_map(|key| metadata.get(*key)).map(|text| read(text.trim()));
    found.find(|names| !names.is_empty()).unwrap_or_default()
}

fn read(text: &str) -> Vec<String> {
    match text.chars().next() {
        Some('{') => dictionary(&words(text)).unwrap_or_default(),
        Some('[' | '(') => sequence(&words(text)).unwrap_or_default(),
        _ => {
            let between = if text.contains('\n') { '\n' } else { ',' };
            let names: Vec<&str> = text.split(between).map(str::trim).collect();
            let are_names = names.len() > 1 && names.iter().all(|name| !name.is_empty());
            if are_names { names.into_iter().map(String::from).collect() } else { Vec::new() }
        }
    }
}

/// A piece of a literal.
#[derive(Debug, PartialEq)]
enum Word {
    Text(String),
    Number(usize),
    Mark(char),
}

fn words(text: &str) -> Vec<Word> {
    let (mut chars, mut words) = (text.chars().peekable(), Vec::new());
    while let Some(c) = chars.next() {
        words.push(match c {
            '"' | '\'' => Word::Text(quoted(&mut chars, c)),
            '0'..='9' => {
                let mut number = c.to_string();
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    number.push(digit);
                }
                number.parse().map_or(Word::Mark(c), Word::Number)
            }
            c if c.is_whitespace() => continue,
            c => Word::Mark(c),
        });
    }
    words
}

/// What stands before the next `end`.
fn quoted(chars: &mut Peekable<Chars>, end: char) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next().filter(|&c| c != end) {
        text.push(match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('t')) => '\t',
            ('\\', Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                code.unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            (_, Some(escaped)) => escaped,
            _ => c,
        });
    }
    text
}

/// `['a', 'b']`
fn sequence(words: &[Word]) -> Option<Vec<String>> {
    let inner = words.get(1..words.len().checked_sub(1)?)?;
    let name = |item: &[Word]| match item {
        [Word::Text(name)] => Some(name.clone()),
        _ => None,
    };
    items(inner).map(name).collect()
}

/// `{0: 'a', 1: 'b'}`, `{"0": "a", "1": "b"}` or `{"a": 0, "b": 1}`: all numbers from 0 on.
fn dictionary(words: &[Word]) -> Option<Vec<String>> {
    let inner = words.get(1..words.len().checked_sub(1)?)?;
    let pair = |item: &[Word]| match item {
        [Word::Number(i), Word::Mark(':'), Word::Text(name)] => Some((*i, name.clone())),
        [Word::Text(name), Word::Mark(':'), Word::Number(i)] => Some((*i, name.clone())),
        [Word::Text(i), Word::Mark(':'), Word::Text(name)] => Some((i.parse().ok()?, name.clone())),
        _ => None,
    };
    let pairs: BTreeMap<usize, String> = items(inner).map(pair).collect::<Option<_>>()?;
    let in_order = pairs.keys().copied().eq(0..items(inner).count());
    in_order.then(|| pairs.into_values().collect())
}

/// What stands between commas; nothing needs to be behind the last.
fn items(words: &[Word]) -> impl Iterator<Item = &[Word]> {
    let comma = Word::Mark(',');
    words.strip_suffix(&[Word::Mark(',')]).unwrap_or(words).split(move |word| *word == comma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_in_every_form() {
        for (key, text) in [
            ("names", "{0: 'cat', 1: \"dog's\", 2: 'émeu'}"),
            ("names", "{2: 'émeu', 0: 'cat', 1: 'dog\\'s',}"),
            ("classes", r#"["cat", "dog's", "\u00e9meu"]"#),
            ("labels", "('cat', \"dog's\", 'émeu')"),
            ("id2label", r#"{"0": "cat", "1": "dog's", "2": "émeu"}"#),
            ("class_names", r#"{"cat": 0, "émeu": 2, "dog's": 1}"#),
            ("labels", "cat, dog's,émeu"),
            ("labels", "cat\ndog's\r\némeu\n"),
        ] {
            let metadata =
                BTreeMap::from([(key.into(), text.into()), ("other".into(), "a,b".into())]);
            assert_eq!(classes(&metadata), ["cat", "dog's", "émeu"], "{text}");
        }
        for text in
            ["", "80", "{", "[", "{0: 'a', 2: 'b'}", "{0: 1}", "[1, 2]", "{0: 'a' 1: 'b'}", "a,,b"]
        {
            assert!(classes(&BTreeMap::from([("names".into(), text.into())])).is_empty(), "{text}");
        }
    }
}
