//! One error type. Operators and readers say *what* is wrong; [`Context`] adds *where*.

use std::path::{Path, PathBuf};

/// Everything that can go wrong in this library.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A file, or a model in it, contradicts its own format.
    #[error("{0}")]
    Invalid(String),
    /// A legal model or file that this project does not implement.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Shapes that do not fit together.
    #[error("{0}")]
    Shape(String),
    /// A number outside the range in which the arithmetic is exact.
    #[error("{0}")]
    Range(String),
    /// The place of an error: a node of the graph.
    #[error("in node \"{node}\" ({op}): {error}")]
    InNode {
        /// Name of the node.
        node: String,
        /// Its operator type.
        op: String,
        /// What happened there.
        error: Box<Error>,
    },
    /// The place of an error: a file.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What happened there.
        error: Box<Error>,
    },
}

impl Error {
    /// The operating system's error behind this one, if there is one.
    pub fn io(&self) -> Option<&std::io::Error> {
        match self {
            Self::Io(error) => Some(error),
            Self::InNode { error, .. } | Self::InFile { error, .. } => error.io(),
            _ => None,
        }
    }
}

/// `Result` with this library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the place to an error.
pub trait Context<T> {
    /// The error happened in the node named `node` of operator type `op`.
    fn in_node(self, node: &str, op: &str) -> Result<T>;
    /// The error happened while reading or writing `path`.
    fn in_file(self, path: &Path) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn in_node(self, node: &str, op: &str) -> Result<T> {
        self.map_err(|e| Error::InNode {
            node: node.into(),
            op: op.into(),
            error: Box::new(e.into()),
        })
    }

    fn in_file(self, path: &Path) -> Result<T> {
        self.map_err(|e| Error::InFile { path: path.into(), error: Box::new(e.into()) })
    }
}

/// `bail!(Shape, "expected {a}, got {b}")` returns that error from the enclosing function.
macro_rules! bail {
    ($kind:ident, $($format:tt)+) => {
        return Err($crate::error::Error::$kind(format!($($format)+)))
    };
}
pub(crate) use bail;
