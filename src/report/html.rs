//! Text of a page: escaped, in two languages, with numbers that say what they are.

use std::fmt::Display;

use crate::quant::Sqnr;
use crate::text::{escaped, printable};

/// `text` as it may stand anywhere in HTML: nothing in it is markup, or steers the direction of writing.
pub fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in escaped(text).chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c => safe.push(c),
        }
    }
    safe
}

/// A name, whole where somebody points at it.
pub fn name(name: &str) -> String {
    let whole = text(name);
    let short = text(&printable(name));
    let title = if short == whole { String::new() } else { format!(" title=\"{whole}\"") };
    format!("<code{title}>{short}</code>")
}

/// What is shown in English, or in Chinese.
pub fn label(english: &str, chinese: &str) -> String {
    format!("<span lang=\"en\">{english}</span><span lang=\"zh\">{chinese}</span>")
}

/// A number of the facts, and how it is shown.
#[derive(Clone, Debug)]
pub struct Number {
    value: String,
    shown: String,
}

impl Number {
    fn new(value: impl Display, shown: String) -> Self {
        Self { value: value.to_string(), shown }
    }

    /// A share, in percent.
    pub fn percent(share: f64) -> Self {
        Self::new(share, format!("{:.2} %", 100.0 * share))
    }

    /// A ratio in dB.
    pub fn db(db: f64) -> Self {
        let shown = if db >= Sqnr::EXACT_DB { "∞ dB".into() } else { format!("{db:.2} dB") };
        Self::new(db, shown)
    }

    /// What is won, with its sign.
    pub fn gain(gain: f64, unit: &str) -> Self {
        Self::new(gain, format!("{gain:+.2} {unit}"))
    }

    /// A count, its digits in threes.
    pub fn count(count: impl Display) -> Self {
        let digits = count.to_string();
        let mut shown = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) && digits.len() > 4 && shown != "-" {
                shown.push('\u{202F}');
            }
            shown.push(c);
        }
        Self::new(digits, shown)
    }

    /// A real number, to four digits.
    pub fn real(x: f64) -> Self {
        let shown = match x.abs() {
            0.0 => "0".into(),
            size if (1e-3..1e5).contains(&size) => {
                let digits = 3 - size.log10().floor() as i32;
                format!("{x:.*}", digits.clamp(0, 6) as usize)
            }
            _ => format!("{x:.3e}"),
        };
        Self::new(x, shown)
    }

    /// A scale: a power of two is shown as one.
    pub fn scale(scale: f64) -> Self {
        match scale.log2() {
            power if power == power.round() => Self::new(scale, format!("2^{power}")),
            _ => Self::real(scale),
        }
    }

    /// In HTML.
    pub fn html(&self) -> String {
        format!("<data value=\"{}\">{}</data>", self.value, self.shown)
    }

    /// In the text of a figure.
    pub fn svg(&self) -> String {
        format!("<tspan data-value=\"{}\">{}</tspan>", self.value, self.shown)
    }
}

/// A table; cells are HTML, heads too.
#[derive(Debug)]
pub struct Table {
    html: String,
}

impl Table {
    /// With these heads.
    pub fn new(heads: &[String]) -> Self {
        let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
        Self { html: format!("<table><thead><tr>{heads}</tr></thead><tbody>") }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: String = cells.into_iter().map(|cell| format!("<td>{cell}</td>")).collect();
        self.html += &format!("<tr>{cells}</tr>");
    }

    /// All of it; wide ones move by themselves.
    pub fn html(self) -> String {
        format!("<div class=\"wide\" tabindex=\"0\">{}</tbody></table></div>", self.html)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_markup() {
        let shown = name("<script>alert('1')</script>\" onload=\"x\u{202e}&");
        assert!(
            !shown["<code>".len()..shown.len() - "</code>".len()].contains(['<', '>', '"', '\''])
        );
        assert!(shown.contains("&lt;script&gt;") && shown.contains("&amp;"), "{shown}");
        assert!(!shown.contains('\u{202e}'));
        let long = format!("<b>{}</b>", "x\"".repeat(100));
        assert!(!name(&long).contains("<b>") && name(&long).contains("title=\"&lt;b&gt;x&quot;"));
    }

    #[test]
    fn numbers_by_hand() {
        let shown = |number: Number| number.shown;
        assert_eq!(shown(Number::percent(0.9431)), "94.31 %");
        assert_eq!(shown(Number::db(999.0)), "∞ dB");
        assert_eq!(
            [999, 1234, 12345, -123456, 1234567].map(|n| shown(Number::count(n))),
            ["999", "1234", "12\u{202F}345", "-123\u{202F}456", "1\u{202F}234\u{202F}567"]
        );
        assert_eq!(
            [0.0, 0.01234567, -1.5, 123.456, 99999.0, 1e-7].map(|x| shown(Number::real(x))),
            ["0", "0.01235", "-1.500", "123.5", "99999", "1.000e-7"]
        );
        assert_eq!([0.0078125, 0.3].map(|x| shown(Number::scale(x))), ["2^-7", "0.3000"]);
        assert_eq!(Number::percent(0.5).html(), "<data value=\"0.5\">50.00 %</data>");
    }
}
