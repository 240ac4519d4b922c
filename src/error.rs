//! One error type. Operators and readers say *what* is wrong; [`Context`] adds *where*. Its text is one
//! line, whatever the names in it.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use crate::text::{escaped, printable};

/// Everything that can go wrong in this library.
#[non_exhaustive]
#[derive(Debug)]
pub enum Error {
    /// The operating system refused to read or write.
    Io(std::io::Error),
    /// A file, or a model in it, contradicts its own format.
    Invalid(String),
    /// A legal model or file that this project does not implement.
    Unsupported(String),
    /// Shapes that do not fit together.
    Shape(String),
    /// A number outside the range in which the arithmetic is exact.
    Range(String),
    /// The place of an error: a node of the graph.
    InNode {
        /// Name of the node.
        node: String,
        /// Its operator type.
        op: String,
        /// What happened there.
        error: Box<Error>,
    },
    /// The place of an error: a value or a constant of the graph.
    InValue {
        /// Its name.
        value: String,
        /// What it is.
        kind: &'static str,
        /// What happened there.
        error: Box<Error>,
    },
    /// The place of an error: a file.
    InFile {
        /// The file.
        path: PathBuf,
        /// What happened there.
        error: Box<Error>,
    },
    /// The place of an error: a sample of the data.
    InSample {
        /// Its number, from 0.
        sample: usize,
        /// What happened there.
        error: Box<Error>,
    },
    /// Everything that stops a network.
    Many {
        /// Those that differ, each with the number of nodes of which it is true.
        errors: Vec<(Error, usize)>,
        /// How many more there are.
        others: usize,
    },
}

/// Length of a text to which no further error is added.
const LONG: usize = 1500;

/// The errors one after the other, as many as are no long text.
fn write_many(f: &mut fmt::Formatter, errors: &[(Error, usize)], others: usize) -> fmt::Result {
    let (mut written, mut left) =
        (0, others + errors.iter().map(|(_, nodes)| nodes).sum::<usize>());
    for (error, nodes) in errors {
        let text = match nodes {
            1 => error.to_string(),
            2 => format!("{error}, and in 1 more node"),
            _ => format!("{error}, and in {} more nodes", nodes - 1),
        };
        if written > 0 && written + text.len() > LONG {
            break;
        }
        f.write_str(if written > 0 { "; " } else { "" })?;
        f.write_str(&text)?;
        (written, left) = (written + text.len(), left - nodes);
    }
    if left > 0 { write!(f, "; and {left} others") } else { Ok(()) }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Unsupported(what) => write!(f, "unsupported: {}", escaped(what)),
            Self::Invalid(what) | Self::Shape(what) | Self::Range(what) => {
                write!(f, "{}", escaped(what))
            }
            Self::InNode { node, op, error } => {
                write!(f, "in node \"{}\" ({}): {error}", printable(node), printable(op))
            }
            Self::InValue { value, kind, error } => {
                write!(f, "{kind} \"{}\": {error}", printable(value))
            }
            Self::InFile { path, error } => {
                write!(f, "{}: {error}", escaped(&path.to_string_lossy()))
            }
            Self::InSample { sample, error } => write!(f, "sample {sample}: {error}"),
            Self::Many { errors, others } => write_many(f, errors, *others),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Error {
    /// The operating system's error behind this one, if there is one.
    pub fn io(&self) -> Option<&std::io::Error> {
        match self {
            Self::Io(error) => Some(error),
            Self::InNode { error, .. }
            | Self::InValue { error, .. }
            | Self::InFile { error, .. }
            | Self::InSample { error, .. } => error.io(),
            _ => None,
        }
    }
}

/// `Result` with this library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the place to an error.
pub trait Context<T> {
    /// The error happened in the node named `node` of operator type `op`, unless it names one already.
    fn in_node(self, node: &str, op: &str) -> Result<T>;
    /// The error happened with the `kind`, a value or a constant, named `value`.
    fn in_value(self, value: &str, kind: &'static str) -> Result<T>;
    /// The error happened while reading or writing `path`.
    fn in_file(self, path: &Path) -> Result<T>;
    /// The error happened with sample number `sample`.
    fn in_sample(self, sample: usize) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn in_node(self, node: &str, op: &str) -> Result<T> {
        self.map_err(|e| match e.into() {
            error @ Error::InNode { .. } => error,
            error => Error::InNode { node: node.into(), op: op.into(), error: Box::new(error) },
        })
    }

    fn in_value(self, value: &str, kind: &'static str) -> Result<T> {
        self.map_err(|e| Error::InValue { value: value.into(), kind, error: Box::new(e.into()) })
    }

    fn in_file(self, path: &Path) -> Result<T> {
        self.map_err(|e| Error::InFile { path: path.into(), error: Box::new(e.into()) })
    }

    fn in_sample(self, sample: usize) -> Result<T> {
        self.map_err(|e| Error::InSample { sample, error: Box::new(e.into()) })
    }
}

/// `bail!(Shape, "expected {a}, got {b}")` returns that error from the enclosing function.
macro_rules! bail {
    ($kind:ident, $format:literal $($arguments:tt)*) => {
        return Err($crate::error::Error::$kind($crate::text::message(
            $format,
            format_args!($format $($arguments)*),
        )))
    };
}
pub(crate) use bail;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_short_line_whatever_is_named() {
        let fail = |name: &str| -> Result<()> { bail!(Invalid, "tensor \"{name}\" is {:?}", name) };
        let long = "x\n\u{202e}".repeat(1 << 16);
        for name in ["a\nerror: b\r\x1b[31mc\u{202e}\u{2028}", &long] {
            let error = fail(name).in_node(name, name).in_file(Path::new("a\nb.onnx")).unwrap_err();
            let text = error.to_string();
            assert!(!text.contains(['\n', '\r', '\x1b', '\u{202e}', '\u{2028}']), "{text}");
            assert!(text.len() < 4000, "{}", text.len());
        }
        let twice = fail("x").in_value("v", "value").in_node("a", "Conv").in_node("b", "Add");
        let text = twice.unwrap_err().to_string();
        assert_eq!(text, "in node \"a\" (Conv): value \"v\": tensor \"x\" is \"x\"");
        let own = Error::Shape("made\nelsewhere".into());
        assert_eq!(own.to_string(), "made\\nelsewhere");
    }
}
