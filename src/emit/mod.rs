//! Integer graph → source code: constants and calls. The code that is called lies in the operators'
//! folders, in the language that it is for; no function body is put together from text.
//!
//! A [`Target`] is a folder here: templates of the files around the network, the list of the operators that
//! its language has, and how their constants are printed.

mod c;
mod rust;
mod sv;

pub use c::{ByteOrder, Layout, Network, Project, constant_bytes, node_bytes};
pub use sv::{Aim, Plan, hardware};
#[cfg(test)]
mod tests;
mod written;

use std::fmt;
use std::path::Path;

use crate::codes::Codes;
use crate::error::{Context, Error, Result, bail};
use crate::exec::int::IntExecutor;
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode, IntValue};
pub use crate::memory::Memory;
use crate::memory::leaves_codes;
pub use crate::ops::language::{C, Rust, Sv};
use crate::ops::language::{Emit, Language};
use crate::ops::{IntOp, Op, Order};
use crate::quant::Given;
use crate::tensor::Tensor;
pub use written::written_files;

/// A file of the deployed network: its name and its text.
pub type File = (String, String);

/// A place where an integer network can run.
pub trait Target: fmt::Debug + Sync {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in a few words.
    fn about(&self) -> &'static str;

    /// Whether it has the node.
    ///
    /// # Errors
    /// Why not, with the node's name.
    fn takes(&self, graph: &IntGraph, node: &IntNode) -> Result<()>;

    /// The files of a network called `name`; without `vectors` there are no tests.
    ///
    /// # Errors
    /// A name that is no identifier; a node whose operator the target does not have.
    fn files(&self, graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>>;

    /// The files of several networks in one folder, in another layout perhaps.
    ///
    /// # Errors
    /// What [`files`](Self::files) refuses; more than one network, or a layout, that the target does not have.
    fn package(&self, networks: &[Network], layout: &Layout) -> Result<Vec<(String, Vec<u8>)>> {
        match networks {
            [one] if *layout == Layout::default() => {
                let files = self.files(one.graph, one.name, one.vectors)?.into_iter();
                Ok(files.map(|(name, text)| (name, text.into_bytes())).collect())
            }
            _ => bail!(
                Unsupported,
                "target \"{}\" takes one network, and has one layout of its files",
                self.name()
            ),
        }
    }

    /// Beside the files, a program that reads inputs from standard input and writes outputs, and what each
    /// layer computed, to standard output.
    fn runner(&self, graph: &IntGraph, name: &str) -> File;

    /// Where every value lies, if values take turns in one memory.
    fn memory(&self, graph: &IntGraph) -> Option<Memory>;

    /// Whether its programs are simulations, which take their time.
    fn is_simulated(&self) -> bool {
        false
    }

    /// How the files of the network "net" and its runner become a program; in several ways, if the compiled
    /// code differs.
    fn builds(&self) -> &'static [Build];

    /// The command that runs the tests in `folder`.
    fn test(&self, folder: &Path, layout: &Layout) -> String;
}

/// A path as a word of a command line.
pub(crate) fn word(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match !path.is_empty() && path.chars().all(is_plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

/// How a program is built in the folder with its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Build {
    /// What it is called when it is told from the target's others.
    pub name: &'static str,
    /// The environment variable that names the tool, with options perhaps, and the tool if it is not set.
    pub tool: (&'static str, &'static str),
    /// How to come by the tool.
    pub install: &'static str,
    /// What it is called with.
    pub arguments: &'static [&'static str],
    /// The program.
    pub program: &'static str,
}

/// All targets.
pub const TARGETS: &[&dyn Target] = &[&C, &Rust, &Sv];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static dyn Target> {
    TARGETS.iter().copied().find(|target| target.name() == name)
}

/// The operators that a language has.
pub trait Operators: Language {
    /// What `op` says in it.
    fn find(op: &IntOp) -> Option<&dyn Emit<Self>>;
}

/// Lists the operators of a language.
macro_rules! operators {
    ($language:ty: $($op:ident),+ $(,)?) => {
        impl $crate::emit::Operators for $language {
            fn find(op: &$crate::ops::IntOp) -> Option<&dyn $crate::ops::language::Emit<Self>> {
                match op {
                    $($crate::ops::IntOp::$op(op) => Some(op),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use operators;

/// What each node says in `L`, or the name of one that has no words.
pub(crate) fn emitters<'a, L: Operators>(
    graph: &'a IntGraph,
    target: &dyn Target,
) -> Result<Vec<&'a dyn Emit<L>>> {
    graph.nodes.iter().map(|node| emitter(node, target)).collect()
}

/// What `node` says in `L`, or its name if it has no words.
pub(crate) fn emitter<'a, L: Operators>(
    node: &'a IntNode,
    target: &dyn Target,
) -> Result<&'a dyn Emit<L>> {
    match L::find(&node.op) {
        Some(emitter) => Ok(emitter),
        None => Err(refusal(target)).in_node(&node.origin, node.op.name()),
    }
}

/// What is said of a node that `target` does not take.
pub(crate) fn refusal(target: &dyn Target) -> Error {
    Error::Unsupported(format!("target \"{}\" does not have this operator", target.name()))
}

/// `template` with its placeholders, `@` and a word, replaced. What replaces one is left as it is; if it is
/// alone on its line, the value brings its own end of line.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut parts = template.split('@');
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let fits = values.iter().filter(|(word, _)| part.starts_with(word));
        let Some((word, value)) = fits.max_by_key(|(word, _)| word.len()) else {
            text.push('@');
            text += part;
            continue;
        };
        let rest = &part[word.len()..];
        let line = text.is_empty() || text.ends_with('\n');
        text += value;
        text += rest.strip_prefix('\n').filter(|_| line).unwrap_or(rest);
    }
    text
}

/// `items` in lines of at most 100 columns.
fn list(items: impl Iterator<Item = String>) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for (i, item) in items.enumerate() {
        if i > 0 {
            let end = column + item.len() > 96;
            text += if end { ",\n    " } else { ", " };
            column = if end { 4 } else { column + 2 };
        }
        column += item.len();
        text += &item;
    }
    text
}

/// An input or an output of the network.
struct Edge<'a> {
    what: &'static str,
    /// `what`, and behind it the number of those before it, if there are any.
    name: String,
    number: usize,
    v: ValueId,
    value: &'a IntValue,
}

impl Edge<'_> {
    fn is_input(&self) -> bool {
        self.what == "input"
    }

    /// Whether the caller gives integers without a sign: the codes with their highest bit flipped.
    fn is_flipped(&self) -> bool {
        self.value.given.is_some_and(Given::is_unsigned)
    }

    /// What stands for real 0 in what the caller gives or gets.
    fn zero_point(&self) -> i32 {
        let lowest = self.value.quant.width.lowest();
        self.value.quant.zero_point - if self.is_flipped() { lowest } else { 0 }
    }

    /// Its codes in a test, as the caller gives or gets them.
    fn codes(&self, vector: &TestVector) -> Vec<i32> {
        let all = if self.is_input() { &vector.inputs } else { &vector.outputs };
        self.value.as_given(&all[self.number])
    }
}

/// Inputs, then outputs.
fn edges(graph: &IntGraph) -> Vec<Edge<'_>> {
    let edges = [("input", &graph.inputs), ("output", &graph.outputs)].into_iter();
    let each = edges.flat_map(|(what, values)| {
        values.iter().enumerate().map(move |(number, &v)| (what, number, v))
    });
    each.map(|(what, number, v)| {
        let name = if number == 0 { what.into() } else { format!("{what}{number}") };
        Edge { what, name, number, v, value: &graph.values[v] }
    })
    .collect()
}

/// Whether the node leaves all codes where they are under this plan: then nothing has to be done.
fn is_nothing(node: &IntNode, memory: &Memory) -> bool {
    let place = memory.values[node.inputs[0]];
    leaves_codes(node) && place.is_some() && place == memory.values[node.output]
}

/// What a value is, for a comment.
fn describe(value: &IntValue) -> String {
    let edge = Edge { what: "", name: String::new(), number: 0, v: 0, value };
    let (scale, zero) = (value.quant.scale[0], edge.zero_point());
    let order = match (value.shape.len(), value.order) {
        (4, Order::ChannelsLast) => {
            let [n, c, h, w] = [0, 1, 2, 3].map(|i| value.shape[i]);
            format!("[n={n}, h={h}, w={w}, c={c}]")
        }
        (3, Order::ChannelsLast) => {
            let [n, c, w] = [0, 1, 2].map(|i| value.shape[i]);
            format!("[n={n}, w={w}, c={c}]")
        }
        _ => format!("{:?}", value.shape),
    };
    format!("\"{}\" {order}, real = {scale:e} * (code - {zero})", comment(&value.name))
}

/// A name as it may stand in a comment.
fn comment(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '_' })
        .collect::<String>()
        .replace("*/", "*_")
        .replace("/*", "/_")
}

/// Inputs, outputs and, layer by layer, results of one run, as codes in the order of memory.
#[derive(Clone, Debug, PartialEq)]
pub struct TestVector {
    /// Each input.
    pub inputs: Vec<Codes>,
    /// Each output.
    pub outputs: Vec<Codes>,
    /// The result of each node.
    pub layers: Vec<Codes>,
}

impl TestVector {
    /// Runs the reference on `inputs`.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn new(reference: &IntExecutor, inputs: &[Tensor<f32>]) -> Result<Self> {
        let graph = reference.graph();
        let mut seen: Vec<Option<Codes>> = vec![None; graph.values.len()];
        reference.run_codes(inputs, |v, codes| {
            seen[v] = Some(codes.clone());
            Ok(())
        })?;
        let codes = |v: ValueId| match seen[v].as_ref().or(graph.values[v].constant.as_ref()) {
            Some(codes) => Ok(codes.clone()),
            None => bail!(Invalid, "value \"{}\" is not computed", graph.values[v].name),
        };
        let all = |values: &[ValueId]| values.iter().map(|&v| codes(v)).collect::<Result<_>>();
        let layers = graph.nodes.iter().map(|n| codes(n.output)).collect::<Result<_>>()?;
        Ok(Self { inputs: all(&graph.inputs)?, outputs: all(&graph.outputs)?, layers })
    }
}

/// FNV-1a of codes, byte by byte, the low one first: <https://www.rfc-editor.org/rfc/rfc9923>.
fn fnv1a(codes: &Codes) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ byte as u32).wrapping_mul(0x0100_0193);
    let bytes = codes.width().bytes();
    codes.iter().flat_map(|code| code.to_le_bytes().into_iter().take(bytes)).fold(0x811C_9DC5, step)
}

/// Refuses what cannot be deployed under this name.
fn check(graph: &IntGraph, name: &str) -> Result<()> {
    if graph.inputs.is_empty() || graph.outputs.is_empty() {
        bail!(Unsupported, "the network needs inputs and outputs to be deployed");
    }
    check_name(name)
}

/// Refuses a name that is no identifier.
///
/// # Errors
/// [`Error::Invalid`] with the name.
pub fn check_name(name: &str) -> Result<()> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let taken = RESERVED.contains(&name)
        || name.starts_with("naive_ptq")
        || Op::folders().any(|folder| folder == name);
    match first && rest && !taken {
        true => Ok(()),
        false => bail!(
            Invalid,
            "\"{name}\" cannot be a network's name in C and Rust: expected lower case letters, digits \
             and _, a letter first, no keyword, no operator, no header of C, no device of Windows, not naive_ptq…"
        ),
    }
}

/// Keywords of C99 and Rust, crates of its toolchain, headers of the C library, of POSIX and of Arduino, names that Windows
/// gives no file, and names of files that are written beside the network's.
const RESERVED: &[&str] = &[
    "abstract",
    "aio",
    "alloc",
    "alloca",
    "arduino",
    "arith",
    "as",
    "assert",
    "async",
    "auto",
    "aux",
    "await",
    "become",
    "box",
    "break",
    "byteswap",
    "case",
    "char",
    "com1",
    "com2",
    "com3",
    "com4",
    "com5",
    "com6",
    "com7",
    "com8",
    "com9",
    "complex",
    "con",
    "const",
    "continue",
    "core",
    "cpio",
    "crate",
    "ctype",
    "default",
    "dirent",
    "dlfcn",
    "do",
    "double",
    "dsp",
    "dyn",
    "else",
    "endian",
    "enum",
    "errno",
    "extern",
    "false",
    "fcntl",
    "features",
    "fenv",
    "final",
    "float",
    "fn",
    "fnmatch",
    "for",
    "ftw",
    "gen",
    "getopt",
    "glob",
    "goto",
    "grp",
    "iconv",
    "if",
    "impl",
    "in",
    "inline",
    "int",
    "inttypes",
    "iso646",
    "langinfo",
    "let",
    "libgen",
    "libintl",
    "limits",
    "locale",
    "long",
    "loop",
    "lpt1",
    "lpt2",
    "lpt3",
    "lpt4",
    "lpt5",
    "lpt6",
    "lpt7",
    "lpt8",
    "lpt9",
    "macro",
    "main",
    "malloc",
    "match",
    "math",
    "mod",
    "move",
    "mqueue",
    "mut",
    "netdb",
    "networks",
    "nul",
    "override",
    "poll",
    "priv",
    "prn",
    "proc_macro",
    "product",
    "pthread",
    "pub",
    "pwd",
    "reent",
    "ref",
    "regex",
    "register",
    "restrict",
    "return",
    "sched",
    "search",
    "self",
    "semaphore",
    "setjmp",
    "short",
    "signal",
    "signed",
    "sizeof",
    "spawn",
    "static",
    "std",
    "stdalign",
    "stdarg",
    "stdatomic",
    "stdbit",
    "stdbool",
    "stdckdint",
    "stddef",
    "stdint",
    "stdio",
    "stdlib",
    "stdnoreturn",
    "string",
    "strings",
    "struct",
    "super",
    "switch",
    "syslog",
    "tar",
    "termios",
    "test",
    "tgmath",
    "threads",
    "time",
    "trait",
    "true",
    "try",
    "type",
    "typedef",
    "typeof",
    "uchar",
    "ulimit",
    "union",
    "unistd",
    "unsafe",
    "unsigned",
    "unsized",
    "use",
    "utime",
    "vectors",
    "virtual",
    "void",
    "volatile",
    "wchar",
    "wctype",
    "where",
    "while",
    "wordexp",
    "yield",
];
