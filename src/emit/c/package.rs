//! Which files networks in C come in.

use std::collections::{BTreeMap, BTreeSet};

use super::prefix::deployed;
use super::{ARITH, ByteOrder, Emitter, Project, distinct};
use crate::emit::{File, TestVector, check, emitters, fill};
use crate::error::{Result, bail};
use crate::lower::IntGraph;
use crate::ops::language::{C, Source};

/// A network that is to be deployed.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// The network.
    pub graph: &'a IntGraph,
    /// What names of its functions begin with.
    pub name: &'a str,
    /// What it computes; without any there are no tests.
    pub vectors: &'a [TestVector],
}

/// How files are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The kernels are part of the one file that is compiled.
    pub single_file: bool,
    /// Long constants are a binary file, in this order of bytes.
    pub blob: Option<ByteOrder>,
    /// The project that the folder is a part of.
    pub project: Project,
}

/// All files that are text.
pub(super) fn sources(networks: &[Network], layout: &Layout) -> Result<Vec<File>> {
    let emitters = all_emitters(networks, layout)?;
    let unit = Unit { name: unit(networks), layout, networks, emitters: &emitters };
    let mut files = unit.code();
    for (network, emitter) in networks.iter().zip(&emitters) {
        if !network.vectors.is_empty() {
            let folder = unit.test_folder(network);
            let header = format!("{}{}.h", unit.path_from(&folder), network.name);
            files.push((
                format!("{folder}/main.c"),
                emitter.program(include_str!("main.c.in"), &header),
            ));
            files.push((format!("{folder}/vectors.h"), emitter.vectors(network.vectors)));
        }
    }
    files.extend(unit.project());
    Ok(files)
}

/// The constants as files.
pub(super) fn blobs(networks: &[Network], layout: &Layout) -> Result<Vec<(String, Vec<u8>)>> {
    let sources = layout.project.sources();
    let file = |emitter: &Emitter| {
        let blob = emitter.blob.as_ref()?;
        Some((format!("{sources}{}.bin", emitter.name), blob.file(emitter.hash())))
    };
    Ok(all_emitters(networks, layout)?.iter().filter_map(file).collect())
}

/// What is compiled: one network under its name, or all together.
fn unit<'a>(networks: &[Network<'a>]) -> &'a str {
    match networks {
        [one] => one.name,
        _ => "networks",
    }
}

fn all_emitters<'a>(networks: &[Network<'a>], layout: &Layout) -> Result<Vec<Emitter<'a>>> {
    if networks.is_empty() {
        bail!(Invalid, "there is no network to be deployed");
    }
    let mut names = BTreeSet::new();
    let emitter = |network: &Network<'a>| {
        check(network.graph, network.name)?;
        if !names.insert(network.name) {
            bail!(Invalid, "two networks have the name \"{}\"", network.name);
        }
        let emitter = Emitter::new(network.graph, network.name, emitters(network.graph, &C)?);
        Ok(match layout.blob {
            Some(order) => emitter.with_blob(order),
            None => emitter,
        })
    };
    networks.iter().map(emitter).collect()
}

/// The file that is compiled, and those around it.
struct Unit<'a> {
    name: &'a str,
    layout: &'a Layout,
    networks: &'a [Network<'a>],
    emitters: &'a [Emitter<'a>],
}

impl Unit<'_> {
    /// Headers, the file that is compiled, and what it includes.
    fn code(&self) -> Vec<File> {
        let sources = self.emitters.iter().flat_map(|emitter| emitter.sources());
        let shared = [&ARITH].into_iter().chain(distinct(sources));
        let shared = shared.map(|source: &Source| (source.file.to_owned(), deployed(source)));
        let (main, mut included) = (format!("{}.c", self.name), Vec::new());
        let mut text = String::new();
        if let [one] = self.emitters {
            text = one.source();
        } else {
            for emitter in self.emitters {
                let file = format!("{}.inc", emitter.name);
                text += &format!("#include \"{file}\"\n");
                included.push((file, emitter.source()));
            }
            text = fill(include_str!("networks.c.in"), &[("INCLUDES", &*text)]);
        }
        included.extend(shared);
        let header = |emitter: &Emitter| (format!("{}.h", emitter.name), emitter.header());
        let mut files: Vec<File> = self.emitters.iter().map(header).collect();
        if self.layout.single_file {
            let included: BTreeMap<String, String> = included.into_iter().collect();
            files.push((main, amalgamated(&text, &included, &mut BTreeSet::new())));
        } else {
            files.push((main, text));
            files.extend(included);
        }
        let folder = self.layout.project.sources();
        files.into_iter().map(|(name, text)| (format!("{folder}{name}"), text)).collect()
    }

    /// Where the tests of a network are.
    fn test_folder(&self, network: &Network) -> String {
        match self.networks {
            [_] => "test".into(),
            _ => format!("test/{}", network.name),
        }
    }

    /// The way from a folder to the code.
    fn path_from(&self, folder: &str) -> String {
        "../".repeat(folder.split('/').count()) + self.layout.project.sources()
    }

    /// What the project expects.
    fn project(&self) -> Vec<File> {
        let (project, src) = (self.layout.project, self.layout.project.sources());
        let with_tests = || self.networks.iter().any(|network| !network.vectors.is_empty());
        let of_each = |template: &str, between: &str| {
            let filled = self.emitters.iter().zip(self.networks).map(|(emitter, network)| {
                let test = self.test_folder(network);
                let values = [("UNIT", self.name), ("SRC", src), ("TEST", &*test)];
                let template = fill(template, &values);
                let edge = "@edge_of_@name";
                let calls = [("ARGUMENTS", &*emitter.joined(edge, edge, ", "))];
                let (buffers, print) =
                    (emitter.joined(BUFFER, BUFFER, ""), emitter.joined("", PRINT, ""));
                let values = [("BUFFERS", &*buffers), ("PRINTS", &*print), calls[0]];
                emitter.fill(&template, &values)
            });
            filled.collect::<Vec<_>>().join(between)
        };
        let blob = |template| {
            if self.layout.blob.is_some() { of_each(template, "") } else { String::new() }
        };
        let tests = if with_tests() { of_each(CMAKE_TEST, "") } else { String::new() };
        let what = if self.networks.len() == 1 { "network" } else { "networks" };
        let values = [
            ("WHAT", what),
            ("LIST", &*of_each("@name", ", ")),
            ("VERSION", env!("CARGO_PKG_VERSION")),
            ("UNIT", self.name),
            ("UPPER", &*self.name.to_uppercase()),
            ("SRC", src),
            ("HEADERS", &*of_each("@SRC@name.h", " ")),
            ("HEADER_LIST", &*of_each("@name.h", ";")),
            ("INCLUDED", &*of_each("@name.h", ",")),
            ("INCLUDES", &*of_each("#include <@name.h>\n", "")),
            ("TEST_FILES", &*of_each("@TEST/main.c @TEST/vectors.h", " ")),
            ("RECIPES", &*of_each(RECIPE, "")),
            ("PROGRAMS", &*of_each("@name_test", " ")),
            ("BLOBS", &*blob(" -D'@NAME_BLOB_FILE=\"@SRC@name.bin\"'")),
            ("DEFINITIONS", &*blob(project.definition())),
            ("TESTS", &*tests),
            ("BUFFERS", &*of_each("@BUFFERS", "")),
            ("CALLS", &*of_each("    @name_run(@ARGUMENTS);\n", "")),
            ("PRINTS", &*of_each("@PRINTS", "")),
        ];
        let files = project.files().iter();
        files.map(|(name, template)| ((*name).into(), fill(template, &values))).collect()
    }
}

/// How the tests of a network are run.
const RECIPE: &str = "\t$(CC) $(CHECKS) $(CFLAGS) -D@NAME_TRACE -D@NAME_ASSERT @TEST/main.c @SRC@UNIT.c -o @name_test\n\t./@name_test\n";
const CMAKE_TEST: &str = "    add_executable(naive_ptq_@name_test @TEST/main.c)
    target_link_libraries(naive_ptq_@name_test PRIVATE naive_ptq_@UNIT)
    add_test(NAME @name COMMAND naive_ptq_@name_test)
";
/// For an input or an output, in a sketch.
const BUFFER: &str = "static @name_@edge_t @edge_of_@name[@NAME_@EDGE_SIZE];\n";
const PRINT: &str = "    Serial.println(@edge_of_@name[0]);\n";

/// `text` with the files that it includes in their place, headers once.
fn amalgamated(
    text: &str,
    files: &BTreeMap<String, String>,
    seen: &mut BTreeSet<String>,
) -> String {
    let line = |line: &str| {
        let name = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"'));
        match name.and_then(|name| files.get_key_value(name)) {
            Some((name, _)) if name.ends_with(".h") && !seen.insert(name.clone()) => String::new(),
            Some((_, text)) => amalgamated(text, files, seen),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}
