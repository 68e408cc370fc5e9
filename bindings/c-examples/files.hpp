// files.hpp - the files of the C++ examples: keys and certificates that survive a crash. (files.h is the
// same for the C examples.)
#ifndef FILES_HPP
#define FILES_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "acme_micro.hpp"

namespace fs = std::filesystem;

// Returns the text of a file; nullopt only if the file does not exist. A file that exists and cannot be
// read throws: the caller must not replace it with a new key.
inline std::optional<std::string> load(const fs::path &path)
{
    if (!fs::exists(path))
        return std::nullopt;
    std::ifstream file;
    file.exceptions(std::ios::failbit | std::ios::badbit);
    file.open(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

// Writes all of the text and syncs it to the disk; false, with errno, after a failure.
inline bool write_and_sync(int file, std::string_view text)
{
    while (!text.empty()) {
        const ssize_t written = write(file, text.data(), text.size());
        if (written < 0 && errno != EINTR)
            return false;
        text.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
    }
    return fsync(file) == 0;
}

// Replaces a file: at every moment it holds its whole old text or its whole new text. The new text is on
// the disk when this returns.
inline void save(const fs::path &path, mode_t mode, std::string_view text)
{
    const fs::path temporary = path.string() + "." + std::to_string(getpid());
    unlink(temporary.c_str());  // an earlier process with our id may have left it behind
    const int file =
        open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (file >= 0)
        fchmod(file, mode);  // the umask may have cleared some bits
    const bool ok = file >= 0 && write_and_sync(file, text);
    const std::error_code why(errno, std::generic_category());
    if (file >= 0)
        close(file);
    if (!ok) {
        unlink(temporary.c_str());
        throw fs::filesystem_error("cannot write", temporary, why);
    }
    fs::rename(temporary, path);
    const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
    if (const int folder = open(parent.c_str(), O_RDONLY | O_CLOEXEC); folder >= 0) {
        fsync(folder);  // the new name, too, is on the disk
        close(folder);
    }
}

// Makes a folder and those above it, if they do not exist. Other users, such as a web server's, can enter the
// new folders, whatever the umask.
inline void make_folders(const fs::path &path)
{
    if (path.empty() || fs::is_directory(path))
        return;
    make_folders(path.parent_path());
    if (fs::create_directory(path))
        fs::permissions(path, fs::perms(0755), fs::perm_options::add);
}

// Returns the key in this file; makes and stores one if the file does not exist. The key is on the disk
// before the CA hears of it: no crash can lose the key of an account or of a certificate.
inline acme::key stored_key(const fs::path &path)
{
    if (const auto pem = load(path))
        return acme::key::parse(*pem);
    acme::key made = acme::key::generate();
    save(path, 0600, *made.pem());
    return made;
}

// Whether the folder names this CA. Throws if its files are for another CA. Without the note, which older
// programs did not write, a stored certificate may be another CA's.
inline bool is_for(const fs::path &folder, std::string_view directory_url)
{
    const auto known = load(folder / "directory.url");
    if (known && known->substr(0, known->find_first_of("\r\n")) != directory_url)
        throw std::runtime_error(folder.string() + ": the files in this folder are for another CA: use " +
                                 "another folder for " + std::string(directory_url) +
                                 "; if this is the new URL of the same CA, remove directory.url");
    return known.has_value();
}

// Notes the CA of the folder.
inline void note_ca(const fs::path &folder, std::string_view directory_url)
{
    save(folder / "directory.url", 0644, std::string(directory_url) + "\n");
}

#endif
