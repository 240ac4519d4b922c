//! The macros of the files that networks share have short names where they are written, and a prefix where they are
//! deployed, so that none is one of the user's.

use std::collections::BTreeSet;

use super::ARITH;
use crate::ops::language::Source;

/// What each begins with.
const PREFIX: &str = "NAIVE_PTQ_";
/// Those that the network's file defines for them.
const GIVEN: [&str; 6] = ["KERNEL", "ASSERT_BOUND", "X_BITS", "Y_BITS", "WEIGHT_BITS", "ACC_BITS"];

/// The text of a shared file as it is deployed.
pub fn deployed(source: &Source) -> String {
    let mut macros = BTreeSet::from(GIVEN);
    for source in [&ARITH, source].into_iter().chain(source.on) {
        macros.extend(defined(source.text).chain(source.on.iter().flat_map(|on| defined(on.text))));
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let with_prefix = |piece| {
        let is_macro = macros.contains(str::trim_end_matches(piece, |c| !is_word(c)));
        [if is_macro { PREFIX } else { "" }, piece].concat()
    };
    source.text.split_inclusive(|c| !is_word(c)).map(with_prefix).collect()
}

/// The macros that a file defines without the prefix.
fn defined(text: &str) -> impl Iterator<Item = &str> {
    let names = text.lines().filter_map(|line| line.strip_prefix("#define "));
    let names = names.map(|rest| rest.split([' ', '(']).next().unwrap_or_default());
    names.filter(|name| !name.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_get_the_prefix() {
        const BASE: &[Source] =
            &[Source::new("base.h", "#define BASE 1\n#define NAIVE_PTQ_OWN 2\n")];
        let source =
            Source::new("top.c", "#define T_OP BASE\nBASES + T_OP(NAIVE_PTQ_OWN, X_MIN, x)\n");
        let expected = "#define NAIVE_PTQ_T_OP NAIVE_PTQ_BASE\nBASES + NAIVE_PTQ_T_OP(NAIVE_PTQ_OWN, NAIVE_PTQ_X_MIN, x)\n";
        assert_eq!(deployed(&source.on(BASE)), expected);
    }
}
