//! Files that projects of a kind expect.

/// A kind of project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Project {
    /// A folder with a Makefile.
    #[default]
    Make,
    /// A library of the Arduino IDE.
    Arduino,
    /// A component of ESP-IDF.
    EspIdf,
    /// A module of Zephyr.
    Zephyr,
    /// A target of CMake that can be installed.
    Cmake,
}

const MAKE: (&str, &str) = ("Makefile", include_str!("project/Makefile.in"));

impl Project {
    /// All, each with its name and what it is.
    pub const ALL: [(Project, &str, &str); 5] = [
        (Self::Make, "make", "A folder with a Makefile"),
        (Self::Arduino, "arduino", "A library of the Arduino IDE"),
        (Self::EspIdf, "esp-idf", "A component of ESP-IDF"),
        (Self::Zephyr, "zephyr", "A module of Zephyr"),
        (Self::Cmake, "cmake", "A target of CMake that can be installed"),
    ];

    /// The folder of the code, with a slash behind it.
    pub(super) fn sources(self) -> &'static str {
        if self == Self::Arduino { "src/" } else { "" }
    }

    /// Names and templates of its files.
    pub(super) fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Make => &[MAKE],
            Self::Arduino => &[
                MAKE,
                ("library.properties", include_str!("project/library.properties.in")),
                ("examples/run/run.ino", include_str!("project/run.ino.in")),
            ],
            Self::EspIdf => &[
                MAKE,
                ("CMakeLists.txt", include_str!("project/component.cmake.in")),
                ("idf_component.yml", include_str!("project/idf_component.yml.in")),
            ],
            Self::Zephyr => &[
                MAKE,
                ("zephyr/module.yml", include_str!("project/module.yml.in")),
                ("zephyr/CMakeLists.txt", include_str!("project/zephyr.cmake.in")),
                ("zephyr/Kconfig", include_str!("project/Kconfig.in")),
            ],
            // A build in the folder itself would write over a Makefile.
            Self::Cmake => &[("CMakeLists.txt", include_str!("project/CMakeLists.txt.in"))],
        }
    }

    /// How CMake is told where the constants of a network are.
    pub(super) fn definition(self) -> &'static str {
        match self {
            Self::Make | Self::Arduino => "",
            Self::EspIdf => {
                "target_compile_definitions(${COMPONENT_LIB} PRIVATE \
                 \"@NAME_BLOB_FILE=\\\"${CMAKE_CURRENT_LIST_DIR}/@name.bin\\\"\")\n"
            }
            Self::Zephyr => {
                "  zephyr_library_compile_definitions(\
                 \"@NAME_BLOB_FILE=\\\"${CMAKE_CURRENT_LIST_DIR}/../@name.bin\\\"\")\n"
            }
            Self::Cmake => {
                "target_compile_definitions(naive_ptq_@UNIT PRIVATE \
                 \"@NAME_BLOB_FILE=\\\"${CMAKE_CURRENT_SOURCE_DIR}/@name.bin\\\"\")\n"
            }
        }
    }

    /// The command that runs the tests in `folder`.
    pub(super) fn test(self, folder: &str) -> String {
        match self {
            Self::Cmake => format!(
                "cmake -S {folder} -B {folder}/build && cmake --build {folder}/build && \
                 ctest --test-dir {folder}/build"
            ),
            _ => format!("make -C {folder} test"),
        }
    }
}
