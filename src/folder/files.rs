//! A folder whose files are complete at any time, even if the program is killed or the disk is full.
//!
//! A descriptor holds the folder, so that no other folder can take its place. No symbolic link in it is
//! followed. The lock is `flock` of the file `.lock`, which only the owner can open: a user who can only
//! read the folder must not be able to block this program.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, fchown, flock, fstat,
    fsync, mkdir, open, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use zeroize::Zeroizing;

use super::file_names::hex;
use crate::error::{Error, ErrorKind, Result};

/// Modes of files with and without secrets.
pub(super) const SECRET: u32 = 0o600;
pub(super) const PUBLIC: u32 = 0o644;

const LOCK: &str = ".lock";
/// Prefix of temporary files; 16 random digits follow.
const TEMPORARY: &str = "tmp-";
/// Maximum size of a file that is read; the files of a store are smaller.
const MAX_SIZE: u64 = 1 << 20;
/// Number of bytes that `check_room` writes: as many as a certificate's chain may have.
const ROOM: usize = 1 << 16;
/// Number of descriptors that `check_room` opens: as many as an order needs for sockets and files.
const DESCRIPTORS: usize = 12;
/// Number of random names that are tried for a temporary file.
const MAX_NAMES: usize = 20;

const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The users who may read a file.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Readers {
    Anybody,
    /// The owner, and a group to which the user has given the file: servers need their keys.
    Group,
    Owner,
}

/// A folder.
pub(super) struct Folder {
    path: PathBuf,
    folder: OwnedFd,
    work: Mutex<Work>,
}

/// The work that this process does in the folder.
struct Work {
    /// Names of the records in work. While there are any, the folder is locked against other processes.
    held: Vec<String>,
    lock: Option<OwnedFd>,
    /// The process to which the lock belongs: a child of fork() has its parent's descriptors.
    process: u32,
}

impl Folder {
    /// Opens the folder; creates it with mode 0700 if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = || {
            match mkdir(path, Mode::RWXU) {
                Ok(()) => {
                    let folder = open(path, flags, Mode::empty())?;
                    fchmod(&folder, Mode::RWXU)?; // the umask may have cleared some bits
                    let parent = openat(&folder, "..", flags, Mode::empty());
                    // Fails harmlessly without the permission.
                    let _ = parent.and_then(fsync);
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            open(path, flags, Mode::empty())
        };
        let folder = opened().map_err(|error| failed(path, error.into()))?;
        let info = fstat(&folder).map_err(|error| failed(path, error.into()))?;
        if info.st_mode & 0o002 != 0 {
            return Err(refused(path, "anybody can write to this folder; chmod o-w it"));
        }
        let work = Work { held: Vec::new(), lock: None, process: std::process::id() };
        Ok(Folder { path: path.to_owned(), folder, work: Mutex::new(work) })
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        match name {
            "" => self.path.clone(),
            name => self.path.join(name),
        }
    }

    /// Makes the error of a file that cannot be used.
    pub(super) fn unusable(&self, name: &str, why: &str) -> Error {
        refused(&self.path_of(name), why)
    }

    fn named<T>(&self, name: &str, result: Result<T, Errno>) -> Result<T> {
        result.map_err(|error| failed(&self.path_of(name), error.into()))
    }

    /// Returns the names of all files, in the order of their bytes.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let listed = || -> Result<Vec<String>, Errno> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.folder)? {
                if let Ok(name) = entry?.file_name().to_str() {
                    names.push(name.to_owned());
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        self.named("", listed())
    }

    /// Whether a file exists, of whatever kind.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => self.named(name, Err(error)),
        }
    }

    /// Returns the content of a file; `None`: it does not exist.
    pub(super) fn read(&self, name: &str, readers: Readers) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some((file, info)) = self.open_regular(name)? else { return Ok(None) };
        self.check(name, &info, readers)?;
        self.content(name, file, &info).map(Some)
    }

    /// Returns the content of a file; `Some(None)`: it is too large, or another user's.
    pub(super) fn read_own(&self, name: &str) -> Result<Option<Option<Zeroizing<Vec<u8>>>>> {
        let Some((file, info)) = self.open_regular(name)? else { return Ok(None) };
        if !self.is_trusted(&info)? || size_of(&info) > MAX_SIZE {
            return Ok(Some(None));
        }
        Ok(Some(Some(self.content(name, file, &info)?)))
    }

    fn open_regular(&self, name: &str) -> Result<Option<(OwnedFd, Stat)>> {
        let file = match openat(&self.folder, name, READ, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.unusable(name, "this is a symbolic link")),
            Err(error) => return self.named(name, Err(error)),
        };
        let info = self.named(name, fstat(&file))?;
        self.check(name, &info, Readers::Anybody)?;
        Ok(Some((file, info)))
    }

    fn content(&self, name: &str, file: OwnedFd, info: &Stat) -> Result<Zeroizing<Vec<u8>>> {
        let size = size_of(info);
        if size > MAX_SIZE {
            return Err(self.unusable(name, "the file has more than 1 MiB"));
        }
        // Room for all of it: a vector that grows leaves copies of the key in memory.
        let room = usize::try_from(size).unwrap_or(0) + 1;
        let mut data = Zeroizing::new(Vec::with_capacity(room));
        let read = File::from(file).take(MAX_SIZE).read_to_end(&mut data);
        read.map_err(|error| failed(&self.path_of(name), error))?;
        Ok(data)
    }

    /// Whether a file belongs to this user, to root, or to the owner of the folder.
    fn is_trusted(&self, info: &Stat) -> Result<bool> {
        let owner = self.owner()?.map(|(user, _)| user.as_raw());
        Ok([Some(0), Some(geteuid().as_raw()), owner].contains(&Some(info.st_uid)))
    }

    fn check(&self, name: &str, info: &Stat, readers: Readers) -> Result<()> {
        if FileType::from_raw_mode(info.st_mode) != FileType::RegularFile {
            return Err(self.unusable(name, "this is not a regular file"));
        }
        if readers == Readers::Anybody {
            return Ok(());
        }
        if !self.is_trusted(info)? {
            return Err(self.unusable(name, "this key belongs to another user"));
        }
        let others = if readers == Readers::Group { 0o007 } else { 0o077 };
        match info.st_mode & others {
            0 => Ok(()),
            _ => Err(self.unusable(name, "others can read this key; chmod 600 it")),
        }
    }

    /// Replaces the content of a file. At every moment it has its whole old or its whole new content. When
    /// this returns, the new content survives a power failure.
    pub(super) fn write(&self, name: &str, data: &[u8], mode: u32) -> Result<()> {
        if let Ok(info) = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            self.check(name, &info, Readers::Anybody)?;
        }
        let written = self.temporary(data, mode, true).and_then(|temporary| {
            renameat(&self.folder, &temporary, &self.folder, name)
                .map_err(io::Error::from)
                .inspect_err(|_| {
                    let _ = unlinkat(&self.folder, &temporary, AtFlags::empty());
                })
        });
        written.map_err(|error| failed(&self.path_of(name), error))?;
        self.named(name, fsync(&self.folder))
    }

    /// Writes a temporary file, and returns its name. After a failure it is removed.
    fn temporary(&self, data: &[u8], mode: u32, durable: bool) -> io::Result<String> {
        let owner = self.owner().map_err(|error| io::Error::other(error.to_string()))?;
        let (name, file) = self.create_temporary(mode)?;
        let mut file = File::from(file);
        let mut written = || -> io::Result<()> {
            give(&file, owner)?;
            fchmod(&file, Mode::from_raw_mode(mode))?; // the umask may have cleared some bits
            file.write_all(data)?;
            if durable {
                fsync(&file)?;
            }
            Ok(())
        };
        match written() {
            Ok(()) => Ok(name),
            Err(error) => {
                let _ = unlinkat(&self.folder, &name, AtFlags::empty());
                Err(error)
            }
        }
    }

    /// Creates a file with a random name, which no other user can predict.
    fn create_temporary(&self, mode: u32) -> io::Result<(String, OwnedFd)> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..MAX_NAMES {
            let mut random = [0; 8];
            openssl::rand::rand_bytes(&mut random).map_err(io::Error::other)?;
            let name = format!("{TEMPORARY}{}", hex(&random));
            match openat(&self.folder, &name, flags, Mode::from_raw_mode(mode)) {
                Ok(file) if self.is_kept(&name, &file) => return Ok((name, file)),
                Ok(_) => {
                    let _ = unlinkat(&self.folder, &name, AtFlags::empty());
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("all random names for a temporary file are taken"))
    }

    /// Locks a new file, so that no other program takes it for one that a killed program has left; false if
    /// one did that already.
    fn is_kept(&self, name: &str, file: &OwnedFd) -> bool {
        if flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return false; // other errors: a file system without locks
        }
        match (fstat(file), statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Ok(ours), Ok(found)) => (ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino),
            _ => false,
        }
    }

    /// Removes a file, if it exists. A power failure may bring it back if the disk fails, too.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.folder, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            Err(error) => self.named(name, Err(error)),
            Ok(()) => {
                if let Err(error) = fsync(&self.folder) {
                    log::warn!("{}: {error}", self.path.display());
                }
                Ok(())
            }
        }
    }

    /// Renames a file that is not usable, and that a user may still want, if it exists; a file that was renamed
    /// before is replaced.
    pub(super) fn set_aside(&self, name: &str, ending: &str) -> Result<()> {
        match renameat(&self.folder, name, &self.folder, format!("{name}{ending}")) {
            Err(Errno::NOENT) => Ok(()),
            renamed => self.named(name, renamed),
        }
    }

    /// Renames a file, if it exists; files that were renamed before stay. Returns its new name.
    pub(super) fn retire(&self, name: &str, ending: &str) -> Result<String> {
        let mut new = format!("{name}{ending}");
        let mut number = 1;
        while self.has(&new)? {
            number += 1;
            new = format!("{name}{ending}.{number}");
        }
        self.set_aside(name, new.get(name.len()..).unwrap_or_default())?;
        self.named(name, fsync(&self.folder))?;
        Ok(new)
    }

    /// Fails if there is no room for the next files, or there are too few descriptors, before the CA gets a
    /// request.
    pub(super) fn check_room(&self) -> Result<()> {
        let more: Result<Vec<_>, _> = (0..DESCRIPTORS).map(|_| self.folder.try_clone()).collect();
        let checked = more.map(drop).and_then(|()| self.temporary(&vec![0; ROOM], SECRET, false));
        let name = checked.map_err(|error| failed(&self.path, error))?;
        self.named("", unlinkat(&self.folder, &name, AtFlags::empty()))
    }

    /// Begins work; `false`: another thread or process works on the same.
    pub(super) fn acquire(&self, what: &str) -> Result<bool> {
        let mut work = self.work();
        if work.held.iter().any(|held| held == what) {
            return Ok(false);
        }
        if work.held.is_empty() {
            match self.lock()? {
                Some(lock) => work.lock = Some(lock),
                None => return Ok(false),
            }
        }
        work.held.push(what.to_owned());
        Ok(true)
    }

    /// Ends work.
    pub(super) fn release(&self, what: &str) {
        let mut work = self.work();
        work.held.retain(|held| held != what);
        if work.held.is_empty() {
            if let Some(lock) = work.lock.take() {
                // Closing is not enough: a child of fork() may have the same descriptor.
                let _ = flock(lock, FlockOperation::Unlock);
            }
        }
    }

    /// Locks the folder against other processes; `None`: one of them works here.
    fn lock(&self) -> Result<Option<OwnedFd>> {
        let locked = || -> Result<Option<OwnedFd>, Errno> {
            let flags = OFlags::RDWR
                | OFlags::CREATE
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC;
            let lock = openat(&self.folder, LOCK, flags, Mode::RUSR | Mode::WUSR)?;
            let owner = fstat(&self.folder).map(|info| owner_of(&info))?;
            give(&lock, owner)?;
            if fstat(&lock)?.st_mode & SECRET != SECRET {
                fchmod(&lock, Mode::from_raw_mode(SECRET))?; // the umask has cleared some bits
            }
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                locked => locked?,
            }
            fsync(&self.folder)?; // the rename of a killed program may not be on the disk
            Ok(Some(lock))
        };
        let lock = self.named(LOCK, locked())?;
        if lock.is_some() {
            self.remove_temporaries()?;
        }
        Ok(lock)
    }

    /// Removes the temporary files of killed programs. One that is being written is locked, and stays.
    fn remove_temporaries(&self) -> Result<()> {
        for name in self.names()? {
            let digits = name.strip_prefix(TEMPORARY).filter(|digits| digits.len() == 16);
            if !digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
                continue;
            }
            let is_left = match openat(&self.folder, &name, READ, Mode::empty()) {
                Ok(file) => {
                    let is_ours =
                        fstat(&file).is_ok_and(|info| self.is_trusted(&info).unwrap_or(false));
                    is_ours && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                }
                Err(error) => error == Errno::LOOP, // a symbolic link is no file of ours
            };
            if is_left {
                let _ = unlinkat(&self.folder, &name, AtFlags::empty());
            }
        }
        Ok(())
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.process != std::process::id() {
            // A child of fork(): the work and the lock are the parent's.
            *work = Work { held: Vec::new(), lock: None, process: std::process::id() };
        }
        work
    }

    /// Returns a number that changes with the files in the folder.
    pub(super) fn revision(&self) -> Result<u64> {
        // Each file takes the place of an older one by a new name, which changes the time of the folder.
        let info = self.named("", fstat(&self.folder))?;
        let (seconds, nanoseconds) = (info.st_mtime as u64, info.st_mtime_nsec as u64);
        Ok(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds))
    }

    /// Returns the owner of new files: root leaves the folder of another user usable for that user.
    fn owner(&self) -> Result<Option<(Uid, Gid)>> {
        let info = self.named("", fstat(&self.folder))?;
        Ok(owner_of(&info))
    }
}

fn size_of(info: &Stat) -> u64 {
    u64::try_from(info.st_size).unwrap_or(u64::MAX)
}

fn owner_of(info: &Stat) -> Option<(Uid, Gid)> {
    let is_other = geteuid().is_root() && info.st_uid != 0;
    is_other.then(|| (Uid::from_raw(info.st_uid), Gid::from_raw(info.st_gid)))
}

fn give(file: impl std::os::fd::AsFd, owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
    match owner {
        Some((user, group)) => fchown(file, Some(user), Some(group)),
        None => Ok(()),
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    refused(path, &error.to_string())
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Store, format!("{}: {why}", path.display()))
}
