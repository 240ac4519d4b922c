//! Folders of files, with or without a list of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::column::{Column, Kind};
use super::npy::write_npy;
use super::rows::Rows;
use crate::error::{Context, Result, bail};
use crate::tensor::Tensor;

/// What is in `dir`: as `manifest.csv` or `labels.csv` says, or else all its images.
pub(super) fn columns(dir: &Path) -> Result<Vec<Column>> {
    for (list, read) in [("manifest.csv", manifest as Read), ("labels.csv", labels)] {
        let csv = dir.join(list);
        if csv.is_file() {
            let text = fs::read_to_string(&csv).in_file(Path::new(list))?;
            let lines = text.trim_start_matches('\u{feff}').lines().zip(1..);
            let lines: Vec<_> = lines.filter(|(line, _)| !line.trim().is_empty()).collect();
            return read(&Folder::new(dir)?, &lines).in_file(Path::new(list));
        }
    }
    let found = files(dir)?;
    let (images, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| has_image_name(it));
    if let Some(other) = others.iter().find(|it| has_extension(it, OTHER_IMAGES)) {
        let name = other.file_name().unwrap_or_default().display();
        bail!(
            Unsupported,
            "\"{name}\" is no .png or .jpg, which are read: convert it, or take it away"
        );
    }
    if images.is_empty() {
        look_deeper(dir)?;
    }
    Ok(vec![Column { name: String::new(), kind: Kind::Files(images) }])
}

/// Endings of images that are not read.
const OTHER_IMAGES: &[&str] = &[
    "avif", "bmp", "dng", "exr", "gif", "heic", "heif", "ico", "jfif", "jp2", "jxl", "pbm", "pgm",
    "pnm", "ppm", "qoi", "tga", "tif", "tiff", "webp",
];

/// The files in `dir`, in order, but for hidden ones.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() && !is_hidden(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Refuses a folder without images if there are some in a folder of it.
fn look_deeper(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !is_hidden(&path) && files(&path)?.iter().any(|it| has_image_name(it)) {
            let name = path.file_name().unwrap_or_default().display();
            bail!(
                Invalid,
                "no images, but some in its folder \"{name}\": give that one, or name them in labels.csv"
            );
        }
    }
    Ok(())
}

/// A field without its quotes.
fn unquoted(field: &str) -> String {
    let field = field.trim();
    match field.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\""),
        None => field.into(),
    }
}

/// The fields of a line: a comma between quotes is part of one.
fn fields(line: &str) -> Vec<String> {
    let mut quoted = false;
    let ends = |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    line.split(ends).map(unquoted).collect()
}

/// Lines that are not blank, with their numbers.
type Lines<'a> = [(&'a str, usize)];
type Read = fn(&Folder, &Lines) -> Result<Vec<Column>>;

struct Folder<'a> {
    dir: &'a Path,
    inside: PathBuf,
}

impl<'a> Folder<'a> {
    fn new(dir: &'a Path) -> Result<Self> {
        Ok(Self { dir, inside: dir.canonicalize()? })
    }

    /// The file of this name, if there is one: none outside, nor led to by a link.
    fn file(&self, name: &str, line: usize) -> Result<Option<PathBuf>> {
        let candidates = [self.dir.join(name), self.dir.join("images").join(name)];
        let Some(file) = candidates.into_iter().find(|path| path.is_file()) else {
            return Ok(None);
        };
        let real = file.canonicalize()?;
        if !real.starts_with(&self.inside) {
            let link = match file.is_symlink() {
                true => {
                    format!(": it is a link to \"{}\", and links must stay in it", real.display())
                }
                false => String::new(),
            };
            bail!(Invalid, "line {line}: \"{name}\" is not in the folder{link}");
        }
        Ok(Some(file))
    }
}

/// The first line has names, each further one the files of a sample; a label may also be a number.
fn manifest(folder: &Folder, lines: &Lines) -> Result<Vec<Column>> {
    let Some(((header, _), lines)) = lines.split_first() else {
        bail!(Invalid, "expected a line with the names of inputs");
    };
    let names = fields(header);
    let mut cells = vec![Vec::new(); names.len()];
    for &(text, line) in lines {
        let parts = fields(text);
        if parts.len() != names.len() {
            bail!(Invalid, "line {line}: {} cells under {} names", parts.len(), names.len());
        }
        cells.iter_mut().zip(parts).for_each(|(column, cell)| column.push((line, cell)));
    }
    let column = |(name, cells): (String, Vec<(usize, String)>)| {
        let classes = cells.iter().map(|(_, cell)| cell.parse().ok()).collect::<Option<Vec<i64>>>();
        let file = |(line, cell): &(usize, String)| match folder.file(cell, *line)? {
            Some(file) => Ok(file),
            None => bail!(Invalid, "line {line}: no file \"{cell}\", nor one in \"images\""),
        };
        let kind = match classes.filter(|classes| !classes.is_empty()) {
            Some(classes) => numbers(classes)?,
            None => Kind::Files(cells.iter().map(file).collect::<Result<_>>()?),
        };
        Ok(Column { name, kind })
    };
    names.into_iter().zip(cells).map(column).collect()
}

fn numbers(classes: Vec<i64>) -> Result<Kind> {
    Ok(Kind::Array(Rows::new(&write_npy(&Tensor::from_vec(classes))[..], None)?))
}

/// Lines `file,label`, of which the first may be a header.
fn labels(folder: &Folder, lines: &Lines) -> Result<Vec<Column>> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for &(line, number) in lines {
        let Some((file, label)) = line.rsplit_once(',') else {
            bail!(Invalid, "line {number}: expected \"file,label\", got {line:?}");
        };
        let (file, label) = (unquoted(file), unquoted(label));
        let (file, label) = (file.as_str(), label.as_str());
        let class = label.parse().ok().filter(|&class: &i64| class >= -1);
        match (folder.file(file, number)?, class) {
            (Some(image), Some(label)) => {
                images.push(image);
                labels.push(label);
            }
            (None, None) if number == 1 && ![file, label].into_iter().any(names_image) => {}
            (None, _) => bail!(Invalid, "line {number}: no file \"{file}\", nor one in \"images\""),
            (Some(_), None) => {
                bail!(
                    Invalid,
                    "line {number}: label \"{label}\" is not a class number 0, 1, …, nor -1"
                )
            }
        }
    }
    let images = Column { name: String::new(), kind: Kind::Files(images) };
    Ok(vec![images, Column { name: "label".into(), kind: numbers(labels)? }])
}

fn names_image(cell: &str) -> bool {
    has_image_name(Path::new(cell.trim()))
}

fn has_image_name(path: &Path) -> bool {
    has_extension(path, &["png", "jpg", "jpeg"])
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default();
    known.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
#[cfg(feature = "images")]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage};

    use super::super::{Dataset, IGNORED, Layout, Preprocess};
    use super::*;

    /// `a.png` in one colour, `b.JPG` in gray, and a file that is no image.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        RgbImage::from_pixel(3, 2, Rgb([10, 20, 30])).save(dir.path().join("a.png")).unwrap();
        GrayImage::from_pixel(2, 2, Luma([128])).save(dir.path().join("b.JPG")).unwrap();
        fs::write(dir.path().join("notes.txt"), "no image").unwrap();
        dir
    }

    fn open(dir: &Path) -> Result<Dataset> {
        Dataset::open(dir, &Preprocess::default())
    }

    fn labels_error(csv: &str) -> String {
        let dir = folder();
        fs::write(dir.path().join("labels.csv"), csv).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: labels.csv: ", dir.path().display())).unwrap().into()
    }

    #[test]
    fn without_labels_all_images_are_taken_in_order() {
        let dir = folder();
        let data = open(dir.path()).unwrap();
        assert_eq!((data.len(), data.with_labels(), data.label(0)), (2, false, None));
        let a = data.sample(0).unwrap();
        assert_eq!(a.shape(), [1, 3, 2, 3]);
        assert_eq!(a.data(), [[10.0; 6], [20.0; 6], [30.0; 6]].concat());
        let b = data.sample(1).unwrap();
        assert_eq!((b.shape(), b.data()), (&[1, 3, 2, 2][..], &[128.0; 12][..]));
    }

    /// An image has no layout of its own, gray or not; an array has one, and more than one way to say so.
    #[test]
    fn images_take_the_layout_of_the_network() {
        let dir = tempfile::tempdir().unwrap();
        RgbImage::from_pixel(3, 2, Rgb([10, 20, 30])).save(dir.path().join("a.png")).unwrap();
        let fitted = |shape: &[usize]| open(dir.path()).unwrap().fit(&[("x", shape)]);
        let sample = |shape: &[usize]| fitted(shape).unwrap().sample(0).unwrap();
        assert_eq!(sample(&[1, 2, 3, 3]).data(), [10.0, 20.0, 30.0].repeat(6));
        assert_eq!(sample(&[1, 3, 2, 3]).data(), [[10.0; 6], [20.0; 6], [30.0; 6]].concat());
        assert_eq!(sample(&[1, 2, 3, 1]).shape(), [1, 2, 3, 1]);
        assert!(fitted(&[1, 3, 3, 2]).is_err());
        assert!(open(dir.path()).unwrap().shapes()[""].contains(&vec![1, 2, 3, 3]));

        let array = dir.path().join("x.npy");
        let x = Tensor::new([1, 3, 2, 4], (0..24).map(|i| i as f32).collect()).unwrap();
        fs::write(&array, write_npy(&x)).unwrap();
        let wanted: &[(&str, &[usize])] = &[("x", &[1, 2, 4, 3])];
        let error = open(&array).unwrap().fit(wanted).unwrap_err().to_string();
        assert!(error.ends_with("their channels first (--layout nchw)"), "{error}");
        let moved = open(&array).unwrap().declared_nchw().fit(wanted).unwrap();
        assert_eq!(moved.sample(0).unwrap().data()[..6], [0.0, 8.0, 16.0, 1.0, 9.0, 17.0]);
    }

    #[test]
    fn labels_csv_tells_files_and_order() {
        let dir = folder();
        fs::rename(dir.path().join("b.JPG"), dir.path().join("images/b, 2.JPG")).unwrap();
        let nhwc = Preprocess { layout: Layout::Nhwc, ..Preprocess::default() };
        for header in ["", "file,label\r\n", "\u{feff}image,class\n\n"] {
            let csv = format!("{header}b, 2.JPG,7\r\n a.png , 0\n");
            fs::write(dir.path().join("labels.csv"), csv).unwrap();
            let data = Dataset::open(dir.path(), &nhwc).unwrap();
            assert_eq!((data.len(), data.label(0), data.label(1)), (2, Some(7), Some(0)));
            assert_eq!(data.sample(1).unwrap().shape(), [1, 2, 3, 3]);
            assert_eq!(data.sample(1).unwrap().data()[..4], [10.0, 20.0, 30.0, 10.0]);
        }
    }

    #[test]
    fn fields_may_have_quotes() {
        assert_eq!(fields(r#" a , "b, c.png","d ""e""",7"#), ["a", "b, c.png", "d \"e\"", "7"]);
        let dir = folder();
        fs::rename(dir.path().join("b.JPG"), dir.path().join("b, 2.JPG")).unwrap();
        fs::write(dir.path().join("labels.csv"), "\"b, 2.JPG\",\"3\"\na.png,-1\n").unwrap();
        let data = open(dir.path()).unwrap();
        assert_eq!((data.len(), data.label(0), data.label(1)), (2, Some(3), Some(IGNORED)));
        fs::remove_file(dir.path().join("labels.csv")).unwrap();
        fs::write(dir.path().join("manifest.csv"), "\"x\",label\n\"b, 2.JPG\",1\n").unwrap();
        assert_eq!(open(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn images_of_other_kinds_and_in_folders_are_named() {
        let dir = folder();
        fs::write(dir.path().join(".hidden.png"), "no image").unwrap();
        fs::create_dir(dir.path().join(".thumbnails")).unwrap();
        assert_eq!(open(dir.path()).unwrap().len(), 2);
        for name in ["c.bmp", "d.WebP", "e.tiff", "f.gif"] {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            let error = open(dir.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{name}\" is no .png or .jpg")), "{error}");
            fs::remove_file(path).unwrap();
        }
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("cats")).unwrap();
        fs::copy(dir.path().join("a.png"), outer.path().join("cats/a.png")).unwrap();
        let error = open(outer.path()).unwrap_err().to_string();
        assert!(error.contains("no images, but some in its folder \"cats\""), "{error}");
    }

    #[test]
    fn faults_in_labels_csv_are_told_by_line() {
        let missing = "line 2: no file \"c.png\", nor one in \"images\"";
        assert_eq!(labels_error("a.png,0\nc.png,1\n"), missing);
        assert!(labels_error("c.png,cat\n").starts_with("line 1: no file"));
        assert!(
            labels_error("a.png,-2\n").starts_with("line 1: label \"-2\" is not a class number")
        );
        assert_eq!(
            labels_error("f,l\n\na.png\n"),
            "line 3: expected \"file,label\", got \"a.png\""
        );
    }

    #[test]
    fn labels_csv_names_no_file_outside() {
        let dir = folder();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let outside = dir.path().join("a.png");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, inner.join("link.png")).unwrap();
        for file in ["../a.png", outside.to_str().unwrap(), "link.png"] {
            fs::write(inner.join("labels.csv"), format!("{file},0\n")).unwrap();
            let error = open(&inner).unwrap_err().to_string();
            let expected = format!("line 1: \"{file}\" is not in the folder");
            assert!(error.contains(&expected), "{error}");
            assert_eq!(error.contains("it is a link to"), file == "link.png", "{error}");
        }
        fs::write(dir.path().join("labels.csv"), "inner/../a.png,0\n").unwrap();
        assert_eq!(open(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_folder_without_images_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: no samples", dir.path().display()));
        fs::write(dir.path().join("labels.csv"), "file,label\n").unwrap();
        assert!(open(dir.path()).unwrap_err().to_string().ends_with("no samples"));
    }
}
