//! An environment out of a release archive: fetched over TLS, checked by its SHA-256, unpacked beside itself and
//! moved into place whole.
//!
//! `release.json` says what to fetch. Where it pins no hash, the first download is checked against the release's own
//! list of checksums, and its hash is kept in `release.lock`: from then on only those bytes are taken.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use reqwest::{StatusCode, Url, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{provision::EnvError, venv::hex};
use benchd_journal::write_atomic;
use benchd_load::client::untimed_client;

/// The file that says what to fetch.
pub(super) const FILE: &str = "release.json";

/// The file that keeps the hash of what was fetched.
const LOCK: &str = "release.lock";

/// Version of both files' layout.
const VERSION: u32 = 1;

/// Folder of downloads.
const CACHE: &str = "cache";

/// What is being unpacked lies in a folder with this name at the front.
const MAKING: &str = ".making-";

/// How often a download whose connection broke goes on by itself.
const RESUMES: u32 = 4;

/// Pause before it goes on.
const RESUME_PAUSE: Duration = Duration::from_secs(1);

/// Limit for opening a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// A download from which nothing comes for this long is broken.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How often progress is told.
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);

/// Times the archive's length that must be free before it is unpacked, beside the archive itself.
const UNPACKED_FACTOR: u64 = 3;

/// Largest window of a Zstandard archive that is unpacked, as a power of two: `zstd --ultra -22`, with which Ollama packs
/// its releases, takes 27.
const LARGEST_WINDOW_LOG: u32 = 31;

/// The content of `release.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    v: u32,
    /// Version, as the plan pins it.
    version: String,
    /// Addresses of the archive, of which the first that is there is taken.
    archives: Vec<String>,
    /// Address of the release's own list of checksums.
    checksums: Option<String>,
    /// SHA-256 of the archive, hex, where it is known beforehand.
    sha256: Option<String>,
    /// The program, in the archive and afterwards in the environment.
    binary: PathBuf,
}

/// The content of `release.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockedRelease {
    v: u32,
    /// Version.
    pub(super) version: String,
    /// Where the archive came from.
    pub(super) url: String,
    /// Its SHA-256, hex.
    pub(super) sha256: String,
}

/// What was fetched into an environment.
pub(super) fn locked(folder: &Path) -> Option<LockedRelease> {
    let text = fs::read(folder.join(LOCK)).ok()?;
    let read: LockedRelease = serde_json::from_slice(&text).ok()?;
    (read.v == VERSION).then_some(read)
}

/// Fetches and unpacks the release that the environment's `release.json` names.
///
/// # Errors
/// No network, a hash that differs, a full disk, an archive that is none; each with a hint.
pub(super) async fn make(
    recipe: &Path,
    folder: &Path,
    cancel: &CancellationToken,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), EnvError> {
    let release = read(recipe)?;
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| EnvError::Disk { path, source }
    };
    // The lock is held, so nobody makes anything here: what is left is of one that was killed.
    for entry in fs::read_dir(folder).map_err(disk(folder))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(MAKING) {
            fs::remove_dir_all(entry.path()).map_err(disk(&entry.path()))?;
        }
    }
    let cache = folder.join(CACHE);
    fs::create_dir_all(&cache).map_err(disk(&cache))?;
    let mut fetch = Fetch {
        recipe,
        release: &release,
        client: client()?,
        cancel,
        progress,
    };
    let (url, archive, resumed) = fetch.archive(&cache).await?;
    let expected = fetch.expected_hash(folder, &url).await?;
    (fetch.progress)("checking the archive's SHA-256");
    let mut found = hash_of(&archive).await.map_err(disk(&archive))?;
    let mut url = url;
    if found != expected && resumed {
        // The first part may be of another attempt, or damaged: once more, whole.
        (fetch.progress)("the hash differs after a resumed download: fetching it again from its start");
        fs::remove_file(&archive).map_err(disk(&archive))?;
        (url, _, _) = fetch.archive(&cache).await?;
        found = hash_of(&archive).await.map_err(disk(&archive))?;
    }
    if found != expected {
        fs::remove_file(&archive).map_err(disk(&archive))?;
        return Err(EnvError::WrongHash {
            url: url.to_string(),
            expected,
            found,
        });
    }
    (fetch.progress)("unpacking");
    unpack(&archive, folder, &release.binary).await?;
    let lock = LockedRelease {
        v: VERSION,
        version: release.version.clone(),
        url: url.to_string(),
        sha256: found,
    };
    let path = folder.join(LOCK);
    let text = serde_json::to_vec_pretty(&lock).map_err(|e| disk(&path)(e.into()))?;
    write_atomic(&path, &text).map_err(|e| disk(&path)(e.source))?;
    fs::remove_file(&archive).map_err(disk(&archive))?;
    (fetch.progress)(&format!("made: {}", folder.join(&release.binary).display()));
    Ok(())
}

fn read(recipe: &Path) -> Result<Release, EnvError> {
    let bad = |why: String| EnvError::Recipe {
        recipe: recipe.to_owned(),
        why,
    };
    let text = fs::read(recipe).map_err(|e| bad(e.to_string()))?;
    let release: Release = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    if release.v != VERSION {
        return Err(bad(format!(
            "version {} is not known; this benchd reads {VERSION}",
            release.v
        )));
    }
    let inside = release
        .binary
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Err(bad("`binary` must lie in the environment".to_owned()));
    }
    for url in release.archives.iter().chain(&release.checksums) {
        let parsed = Url::parse(url).map_err(|e| bad(format!("{url}: {e}")))?;
        let local = parsed
            .host_str()
            .is_some_and(|host| host == "127.0.0.1" || host == "[::1]" || host == "localhost");
        if parsed.scheme() != "https" && !local {
            return Err(bad(format!("{url}: only https is taken from another machine")));
        }
    }
    Ok(release)
}

fn client() -> Result<reqwest::Client, EnvError> {
    untimed_client()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(SILENCE_LIMIT)
        .build()
        .map_err(|error| EnvError::Network {
            url: String::new(),
            why: causes(&error),
        })
}

/// One fetch of a release.
struct Fetch<'a> {
    recipe: &'a Path,
    release: &'a Release,
    client: reqwest::Client,
    cancel: &'a CancellationToken,
    progress: &'a mut (dyn FnMut(&str) + Send),
}

/// How a try to download ended.
enum Tried {
    /// All is there.
    Whole,
    /// This address has no such file.
    NotThere,
    /// The connection broke; what came is kept.
    Broken(String),
}

impl Fetch<'_> {
    /// The archive on disk: its address, its file, and whether it came in more than one part.
    async fn archive(&mut self, cache: &Path) -> Result<(Url, PathBuf, bool), EnvError> {
        let mut tried = Vec::new();
        for text in &self.release.archives {
            // Checked when the file was read.
            let Ok(url) = Url::parse(text) else { continue };
            let file = cache.join(format!("{}-{}", self.release.version, file_name(&url)));
            let mut resumed = length(&file) > 0;
            let mut broken = 0;
            loop {
                match self.download(&url, &file).await? {
                    Tried::Whole => return Ok((url, file, resumed)),
                    Tried::NotThere => {
                        tried.push(text.clone());
                        break;
                    }
                    Tried::Broken(why) if broken == RESUMES => {
                        return Err(EnvError::Network {
                            url: text.clone(),
                            why: format!("{why}; {} MB are kept", length(&file) / 1_000_000),
                        });
                    }
                    Tried::Broken(why) => {
                        broken += 1;
                        resumed = resumed || length(&file) > 0;
                        (self.progress)(&format!("{why}; going on in a moment"));
                        tokio::select! {
                            () = tokio::time::sleep(RESUME_PAUSE) => {}
                            () = self.cancel.cancelled() => return Err(self.cancelled()),
                        }
                    }
                }
            }
        }
        Err(EnvError::NotThere { urls: tried })
    }

    async fn download(&mut self, url: &Url, file: &Path) -> Result<Tried, EnvError> {
        let disk = |source| EnvError::Disk {
            path: file.to_owned(),
            source,
        };
        let have = length(file);
        let mut request = self.client.get(url.clone());
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let answer = tokio::select! {
            answer = request.send() => answer,
            () = self.cancel.cancelled() => return Err(self.cancelled()),
        };
        let answer = match answer {
            Ok(answer) => answer,
            // Who can't be reached at all will not be reached a second later.
            Err(error) if error.is_connect() => {
                return Err(EnvError::Network {
                    url: url.to_string(),
                    why: causes(&error),
                });
            }
            Err(error) => return Ok(Tried::Broken(causes(&error))),
        };
        let (at, total) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => (have, answer.content_length().map(|rest| have + rest)),
            StatusCode::OK => (0, answer.content_length()),
            // All of it came before, or the file is not of these bytes: the hash tells.
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(Tried::Whole),
            StatusCode::NOT_FOUND => return Ok(Tried::NotThere),
            status if status.is_server_error() => {
                return Ok(Tried::Broken(format!("{url} answered {status}")));
            }
            status => {
                return Err(EnvError::Network {
                    url: url.to_string(),
                    why: format!("it answered {status}"),
                });
            }
        };
        if let Some(total) = total {
            room_for(
                file,
                (total - at).saturating_add(total.saturating_mul(UNPACKED_FACTOR)),
            )?;
        }
        let mut out = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(file)
            .map_err(disk)?;
        out.set_len(at).map_err(disk)?;
        out.seek(SeekFrom::End(0)).map_err(disk)?;
        if at > 0 {
            (self.progress)(&format!("going on at {} MB", at / 1_000_000));
        }
        let mut body = answer.bytes_stream();
        let (started, mut told, mut came) = (Instant::now(), Instant::now(), at);
        loop {
            let piece = tokio::select! {
                piece = body.next() => piece,
                () = self.cancel.cancelled() => return Err(self.cancelled()),
            };
            let piece = match piece {
                None => break,
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    return Ok(Tried::Broken(format!(
                        "the connection broke at {} MB ({})",
                        came / 1_000_000,
                        causes(&error)
                    )));
                }
            };
            out.write_all(&piece).map_err(disk)?;
            came += piece.len() as u64;
            if told.elapsed() >= PROGRESS_PERIOD {
                told = Instant::now();
                let rate = (came - at) as f64 / started.elapsed().as_secs_f64() / 1e6;
                let of = total
                    .map(|t| format!(" of {}", t / 1_000_000))
                    .unwrap_or_default();
                (self.progress)(&format!("{}{of} MB, {rate:.1} MB/s", came / 1_000_000));
            }
        }
        out.sync_all().map_err(disk)?;
        if total.is_some_and(|total| came < total) {
            return Ok(Tried::Broken(format!(
                "the connection ended at {} MB",
                came / 1_000_000
            )));
        }
        Ok(Tried::Whole)
    }

    /// The hash that the archive must have.
    async fn expected_hash(&mut self, folder: &Path, url: &Url) -> Result<String, EnvError> {
        if let Some(pinned) = &self.release.sha256 {
            return Ok(pinned.to_ascii_lowercase());
        }
        if let Some(locked) = locked(folder)
            && locked.version == self.release.version
            && locked.url == url.as_str()
        {
            return Ok(locked.sha256);
        }
        let Some(list) = &self.release.checksums else {
            return Err(EnvError::Recipe {
                recipe: self.recipe.to_owned(),
                why: "it gives neither `sha256` nor `checksums`".to_owned(),
            });
        };
        (self.progress)("fetching the release's checksums");
        let network = |error: reqwest::Error| EnvError::Network {
            url: list.clone(),
            why: causes(&error),
        };
        let answer = self
            .client
            .get(list)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        let text = answer.map_err(network)?.text().await.map_err(network)?;
        let name = file_name(url);
        find_checksum(&text, &name).ok_or_else(|| EnvError::NoChecksum {
            list: list.clone(),
            name,
        })
    }

    fn cancelled(&self) -> EnvError {
        EnvError::Cancelled {
            recipe: self.recipe.to_owned(),
        }
    }
}

/// The hash of a file in a list of `sha256sum`: `<hash>  ./name` or `<hash> *name`.
fn find_checksum(list: &str, name: &str) -> Option<String> {
    list.lines().find_map(|line| {
        let (hash, file) = line.trim().split_once(char::is_whitespace)?;
        let file = file.trim_start().trim_start_matches('*').trim_start_matches("./");
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        (file == name && is_hash).then(|| hash.to_ascii_lowercase())
    })
}

fn file_name(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut parts| parts.next_back());
    last.filter(|name| !name.is_empty())
        .unwrap_or("archive")
        .to_owned()
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.len())
}

/// An error with its causes: reqwest's own text leaves out why a connection failed.
fn causes(error: &reqwest::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        texts.push(next.to_string());
        cause = next.source();
    }
    texts.dedup();
    texts.join(": ")
}

/// Whether the disk has room for so many bytes more; where it can't be told, the write tells.
fn room_for(file: &Path, needed: u64) -> Result<(), EnvError> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    let Ok(stat) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        return Err(EnvError::NoRoom {
            folder: folder.to_owned(),
            free,
            needed,
        });
    }
    Ok(())
}

async fn hash_of(file: &Path) -> io::Result<String> {
    let file = file.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut file = File::open(file)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hash.finalize())),
                n => hash.update(&buffer[..n]),
            }
        }
    });
    hashed.await.map_err(io::Error::other)?
}

/// Unpacks into a folder beside, then moves each of its entries into place, the one with the program last: where the
/// program is, all is.
async fn unpack(archive: &Path, folder: &Path, binary: &Path) -> Result<(), EnvError> {
    let (archive, folder, binary) = (archive.to_owned(), folder.to_owned(), binary.to_owned());
    let done = tokio::task::spawn_blocking(move || unpack_now(&archive, &folder, &binary));
    done.await.map_err(|error| EnvError::Unpack {
        archive: PathBuf::new(),
        source: io::Error::other(error),
    })?
}

fn unpack_now(archive: &Path, folder: &Path, binary: &Path) -> Result<(), EnvError> {
    let bad = |source| EnvError::Unpack {
        archive: archive.to_owned(),
        source,
    };
    let disk = |source| EnvError::Disk {
        path: folder.to_owned(),
        source,
    };
    let making = tempfile::Builder::new()
        .prefix(MAKING)
        .tempdir_in(folder)
        .map_err(disk)?;
    let (new, old) = (making.path().join("new"), making.path().join("old"));
    for dir in [&new, &old] {
        fs::create_dir(dir).map_err(disk)?;
    }
    extract(archive, &new).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            disk(error)
        }
        _ => bad(error),
    })?;
    if !new.join(binary).is_file() {
        return Err(bad(io::Error::new(
            io::ErrorKind::NotFound,
            format!("it holds no {}", binary.display()),
        )));
    }
    let holds_binary = binary.iter().next().unwrap_or_default().to_owned();
    let mut entries: Vec<_> = fs::read_dir(&new)
        .map_err(disk)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    entries.sort_by_key(|name| *name == holds_binary);
    // The old program goes first: there is never one beside another release's libraries.
    for name in entries.iter().rev() {
        let place = folder.join(name);
        if place.symlink_metadata().is_ok() {
            fs::rename(&place, old.join(name)).map_err(disk)?;
        }
    }
    for name in &entries {
        fs::rename(new.join(name), folder.join(name)).map_err(disk)?;
    }
    Ok(())
}

/// A tar archive, compressed by Zstandard or gzip, told by its first bytes.
fn extract(archive: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::open(archive)?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is empty"))?;
    file.rewind()?;
    let input = io::BufReader::with_capacity(1 << 20, file);
    let plain: Box<dyn Read> = match magic {
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(LARGEST_WINDOW_LOG)?;
            Box::new(decoder)
        }
        [0x1f, 0x8b, _, _] => Box::new(flate2::read::MultiGzDecoder::new(input)),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is neither Zstandard nor gzip",
            ));
        }
    };
    tar::Archive::new(plain).unpack(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_found_in_the_forms_that_sha256sum_writes() {
        let hash = "ab".repeat(32);
        let list = format!("{}  ./other.tgz\n{hash}  ./a.tar.zst\n", "cd".repeat(32));
        assert_eq!(find_checksum(&list, "a.tar.zst"), Some(hash.clone()));
        assert_eq!(find_checksum(&format!("{hash} *a.tgz"), "a.tgz"), Some(hash));
        assert_eq!(find_checksum("<html>a.tgz</html>", "a.tgz"), None);
        assert_eq!(find_checksum("abc  a.tgz", "a.tgz"), None);
    }

    #[test]
    fn only_tls_is_taken_from_another_machine_and_the_program_lies_inside() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dir.path().join(FILE);
        let refused = |url: &str, binary: &str| {
            let text = serde_json::json!({ "v": 1, "version": "1", "archives": [url], "binary": binary });
            fs::write(&recipe, text.to_string()).unwrap();
            read(&recipe).err().map(|error| error.to_string())
        };
        assert_eq!(refused("https://example.org/a.tgz", "bin/x"), None);
        assert_eq!(refused("http://127.0.0.1:9/a.tgz", "bin/x"), None);
        assert!(
            refused("http://example.org/a.tgz", "bin/x")
                .unwrap()
                .contains("https")
        );
        assert!(
            refused("https://example.org/a.tgz", "../x")
                .unwrap()
                .contains("binary")
        );
        assert!(
            refused("https://example.org/a.tgz", "/usr/bin/x")
                .unwrap()
                .contains("binary")
        );
    }

    #[test]
    fn an_archive_of_the_largest_level_is_unpacked_and_moved_into_place() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar.zst");
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(9);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, "bin/program", &b"#!/bin/sh"[..])
            .unwrap();
        let plain = tar.into_inner().unwrap();
        fs::write(&archive, zstd::encode_all(&plain[..], 22).unwrap()).unwrap();
        unpack_now(&archive, dir.path(), Path::new("bin/program")).unwrap();
        assert_eq!(fs::read(dir.path().join("bin/program")).unwrap(), b"#!/bin/sh");
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
