//! A folder whose files are complete at any time, even if the program is killed or the disk is full.
//!
//! A descriptor holds the folder, so that no other folder can take its place. No symbolic link in it is
//! followed. The lock is `flock` of the file `.lock`, which only the owner can open: a user who can only
//! read the folder must not be able to block this program.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, fchown, flock, fstat,
    fsync, mkdir, open, openat, readlinkat, renameat, statat, symlinkat, unlinkat,
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
/// The same in a folder of servers: they read files that have just appeared, but not hidden ones.
const SERVERS_LOCK: &str = ".acme-lock";
const SERVERS_TEMPORARY: &str = ".tmp-";
/// How often, and how many times, a write tries to lock the folder.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);
const LOCK_TRIES: u32 = 250;
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

/// User and group of new files; `None`: those of the process.
#[derive(Clone, Copy)]
pub(super) struct Owner(Option<Uid>, Option<Gid>);

impl Owner {
    /// `None`: neither is given.
    pub(super) fn new(user: Option<u32>, group: Option<u32>) -> Option<Owner> {
        let is_given = user.is_some() || group.is_some();
        is_given.then(|| Owner(user.map(Uid::from_raw), group.map(Gid::from_raw)))
    }
}

/// A folder.
pub(super) struct Folder {
    path: PathBuf,
    folder: OwnedFd,
    work: Mutex<Work>,
    /// The names of its lock and of temporary files, and the owner of new files; `None`: that of the folder.
    lock: &'static str,
    temporary: &'static str,
    owner: Option<Owner>,
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
        Ok(Folder::new(path.to_owned(), folder))
    }

    fn new(path: PathBuf, folder: OwnedFd) -> Folder {
        let work = Mutex::new(Work { held: Vec::new(), lock: None, process: std::process::id() });
        Folder { path, folder, work, lock: LOCK, temporary: TEMPORARY, owner: None }
    }

    /// Opens a folder of servers, which has to exist; new files get this owner.
    pub(super) fn for_servers(path: &Path, owner: Option<Owner>) -> Result<Folder> {
        std::fs::metadata(path).map_err(|error| failed(path, error))?;
        let mut folder = Folder::open(path)?;
        (folder.lock, folder.temporary, folder.owner) = (SERVERS_LOCK, SERVERS_TEMPORARY, owner);
        Ok(folder)
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
        let owner = self.owner()?.and_then(|Owner(user, _)| user).map(Uid::as_raw);
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
            let name =
                random_name(self.temporary).map_err(|error| io::Error::other(error.to_string()))?;
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

    /// Renames a file, if it exists; files that were renamed before stay. Returns its new name; without such a
    /// file, the name of the last one that was renamed.
    pub(super) fn retire(&self, name: &str, ending: &str) -> Result<String> {
        let mut new = format!("{name}{ending}");
        let mut last = new.clone();
        let mut number = 1;
        while self.has(&new)? {
            number += 1;
            last = std::mem::replace(&mut new, format!("{name}{ending}.{number}"));
        }
        if !self.has(name)? {
            return Ok(last);
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
            let lock = openat(&self.folder, self.lock, flags, Mode::RUSR | Mode::WUSR)?;
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
        let lock = self.named(self.lock, locked())?;
        if lock.is_some() {
            self.remove_temporaries()?;
        }
        Ok(lock)
    }

    /// Removes the temporary files of killed programs. One that is being written is locked, and stays.
    fn remove_temporaries(&self) -> Result<()> {
        for name in self.names()? {
            if !is_random_name(&name, self.temporary) {
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
    fn owner(&self) -> Result<Option<Owner>> {
        let info = self.named("", fstat(&self.folder))?;
        Ok(self.owner.or_else(|| owner_of(&info)))
    }

    /// Begins to write; waits until no other process writes.
    pub(super) fn begin_writing(&self) -> Result<Writing<'_>> {
        for _ in 0..LOCK_TRIES {
            if self.acquire("")? {
                return Ok(Writing(self));
            }
            thread::sleep(LOCK_INTERVAL);
        }
        let seconds = (LOCK_INTERVAL * LOCK_TRIES).as_secs();
        let why = format!("another program has been at work in this folder for {seconds} seconds");
        Err(self.unusable("", &why))
    }

    /// Writes files into a new folder beside the link `name`, and switches the link to it. `files` have a name, a
    /// content and a mode each. Removes all older folders of the link.
    pub(super) fn replace_folder(
        &self,
        name: &str,
        files: &[(Option<&str>, &str, u32)],
    ) -> Result<()> {
        let prefix = format!(".{name}.");
        self.target(name, &prefix)?;
        let new = random_name(&prefix)?;
        let written = self.write_folder(&new, files);
        let written = written.and_then(|()| self.named(name, self.switch(name, &new)));
        let current = self.target(name, &prefix)?;
        for old in self.names()? {
            if is_random_name(&old, &prefix) && Some(&old) != current.as_ref() {
                if let Err(error) = self.remove_folder(&old) {
                    log::warn!("{error}");
                }
            }
        }
        written
    }

    /// Writes files into a new folder in this one, which servers can read.
    fn write_folder(&self, name: &str, files: &[(Option<&str>, &str, u32)]) -> Result<()> {
        let mut folder = Folder::open(&self.path_of(name))?;
        folder.owner = self.owner()?;
        for (name, data, mode) in files {
            if let Some(name) = name {
                folder.write(name, data.as_bytes(), *mode)?;
            }
        }
        let shared = give(&folder.folder, folder.owner)
            .and_then(|()| fchmod(&folder.folder, Mode::from_raw_mode(0o755)))
            .and_then(|()| fsync(&folder.folder));
        folder.named("", shared)
    }

    /// Returns the folder to which a link leads; `None`: it does not exist.
    fn target(&self, link: &str, prefix: &str) -> Result<Option<String>> {
        match readlinkat(&self.folder, &*c_name(link), Vec::new()) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) if error != Errno::INVAL => self.named(link, Err(error)),
            target => match target.unwrap_or_default().into_string() {
                Ok(target) if is_random_name(&target, prefix) => Ok(Some(target)),
                _ => Err(self.unusable(link, "this is not a symbolic link of this library")),
            },
        }
    }

    /// Makes a link lead to another folder. At every moment it leads to the old or to the new one.
    fn switch(&self, link: &str, target: &str) -> Result<(), Errno> {
        let (new, link, target) = (c_name(&format!(".{link}.new")), c_name(link), c_name(target));
        match unlinkat(&self.folder, &*new, AtFlags::empty()) {
            Err(Errno::NOENT) => {}
            removed => removed?,
        }
        symlinkat(&*target, &self.folder, &*new)?;
        fsync(&self.folder)?;
        renameat(&self.folder, &*new, &self.folder, &*link)?;
        fsync(&self.folder)
    }

    /// Removes a folder with its files.
    fn remove_folder(&self, name: &str) -> Result<()> {
        let name_c = c_name(name);
        let folder = openat(&self.folder, &*name_c, READ | OFlags::DIRECTORY, Mode::empty());
        let folder = Folder::new(self.path_of(name), self.named(name, folder)?);
        for file in folder.names()? {
            let _ = unlinkat(&folder.folder, &*c_name(&file), AtFlags::empty()); // not "."
        }
        folder.named("", unlinkat(&self.folder, &*name_c, AtFlags::REMOVEDIR))
    }
}

/// The right to write in a folder; dropping this ends it.
pub(super) struct Writing<'a>(&'a Folder);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.release("");
    }
}

/// Returns a name for the system. It contains no NUL; otherwise it would end there.
fn c_name(name: &str) -> CString {
    CString::new(name.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// Returns the prefix with 16 random digits, which no other user can predict.
fn random_name(prefix: &str) -> Result<String> {
    let mut random = [0; 8];
    openssl::rand::rand_bytes(&mut random)?;
    Ok(format!("{prefix}{}", hex(&random)))
}

fn is_random_name(name: &str, prefix: &str) -> bool {
    let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 16);
    digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn size_of(info: &Stat) -> u64 {
    u64::try_from(info.st_size).unwrap_or(u64::MAX)
}

fn owner_of(info: &Stat) -> Option<Owner> {
    let is_other = geteuid().is_root() && info.st_uid != 0;
    if is_other { Owner::new(Some(info.st_uid), Some(info.st_gid)) } else { None }
}

fn give(file: impl std::os::fd::AsFd, owner: Option<Owner>) -> Result<(), Errno> {
    match owner {
        Some(Owner(user, group)) => fchown(file, user, group),
        None => Ok(()),
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    refused(path, &error.to_string())
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Store, format!("{}: {why}", path.display()))
}
