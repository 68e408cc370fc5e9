# Installing: included by the Makefile. PREFIX, LIBDIR, INCLUDEDIR, MANDIR and DESTDIR are set there.

##@ Install

HEADERS := acme_micro.h acme_micro.hpp acme_micro_openssl.h
PKGCONFIGDIR = $(LIBDIR)/pkgconfig
CMAKEDIR = $(LIBDIR)/cmake/acme-micro
SPACE := $() $()
# The oldest OpenSSL that the library is tested with; a program on the static library needs it, too.
OPENSSL := 3.0
FILL_IN = sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|' \
    -e 's|@CMAKEDIR@|$(CMAKEDIR)|; s|@VERSION@|$(VERSION)|; s|@SONAME@|$(SONAME)|; s|@OPENSSL@|$(OPENSSL)|'

CMAKE_FILES := acme-micro-config.cmake acme-micro-config-version.cmake
# man.py writes a page for each name that the headers declare.
PAGES = acme-micro libacme-micro \
    $(shell grep -ohw 'acme_[a-z0-9_]*[a-z0-9]' include/*.h | grep -vx acme_micro | sort -u)

install: check-folders ## install libraries, headers, man pages, pkg-config and CMake files, after make build
	@test -f $(STAGED) -a -f $(STATIC) || { echo 'nothing to install yet: run make build' >&2; exit 1; }
	install -d '$(DESTDIR)$(PKGCONFIGDIR)' '$(DESTDIR)$(CMAKEDIR)' '$(DESTDIR)$(INCLUDEDIR)'
	install -m 755 $(STAGED) '$(DESTDIR)$(LIBDIR)/libacme-micro.so.$(ABI)'
	ln -sf libacme-micro.so.$(ABI) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libacme-micro.so'
	install -m 644 $(STATIC) '$(DESTDIR)$(LIBDIR)/libacme-micro.a'
	install -m 644 $(HEADERS:%=include/%) '$(DESTDIR)$(INCLUDEDIR)'
	$(FILL_IN) -e 's|dir=$(PREFIX)/|dir=$${prefix}/|; /dir=/s| |\\ |g' \
	    -e 's|^prefix=.*|$(subst $(SPACE),\\ ,prefix=$(PREFIX))|' packaging/acme-micro.pc.in \
	    >'$(DESTDIR)$(PKGCONFIGDIR)/acme-micro.pc'
	$(FILL_IN) packaging/cmake/acme-micro-config.cmake.in \
	    >'$(DESTDIR)$(CMAKEDIR)/acme-micro-config.cmake'
	$(FILL_IN) packaging/cmake/acme-micro-config-version.cmake.in \
	    >'$(DESTDIR)$(CMAKEDIR)/acme-micro-config-version.cmake'
	chmod 644 '$(DESTDIR)$(PKGCONFIGDIR)/acme-micro.pc' \
	    $(foreach file,$(CMAKE_FILES),'$(DESTDIR)$(CMAKEDIR)/$(file)')
	@if ls target/man/man3/*.3 >/dev/null 2>&1; then \
	    echo 'and the man pages, to $(DESTDIR)$(MANDIR)/man3'; \
	    install -d '$(DESTDIR)$(MANDIR)/man3' && \
	    install -m 644 target/man/man3/*.3 '$(DESTDIR)$(MANDIR)/man3'; \
	else echo 'no man pages installed: run make man first'; fi

# Removes folders that are empty afterwards, up to PREFIX, but none of the system's own.
uninstall: check-folders ## remove what install installed, and folders that are empty then
	rm -f '$(DESTDIR)$(LIBDIR)/libacme-micro.so.$(ABI)' '$(DESTDIR)$(LIBDIR)/$(SONAME)' \
	    '$(DESTDIR)$(LIBDIR)/libacme-micro.so' '$(DESTDIR)$(LIBDIR)/libacme-micro.a' \
	    '$(DESTDIR)$(PKGCONFIGDIR)/acme-micro.pc' \
	    $(foreach file,$(CMAKE_FILES),'$(DESTDIR)$(CMAKEDIR)/$(file)') \
	    $(foreach file,$(HEADERS),'$(DESTDIR)$(INCLUDEDIR)/$(file)')
	@echo 'and the man pages, from $(DESTDIR)$(MANDIR)/man3'
	@rm -f $(foreach page,$(PAGES),'$(DESTDIR)$(MANDIR)/man3/$(page).3')
	@for folder in '$(CMAKEDIR)' '$(LIBDIR)/cmake' '$(PKGCONFIGDIR)' '$(MANDIR)/man3'; do \
	    rmdir '$(DESTDIR)'"$$folder" 2>/dev/null || true; \
	done
	@case '$(DESTDIR)$(PREFIX)' in '' | / | /usr | /usr/ | /usr/local | /usr/local/) exit ;; esac; \
	for folder in '$(LIBDIR)' '$(INCLUDEDIR)' '$(MANDIR)'; do \
	    while rmdir '$(DESTDIR)'"$$folder" 2>/dev/null; do \
	        case "$$folder" in '$(PREFIX)'/*) folder=$${folder%/*} ;; *) break ;; esac; \
	    done; \
	done

# Only characters that the shell, sed, pkg-config and CMake take literally, and a space.
check-folders: export FOLDERS = $(PREFIX)$(LIBDIR)$(INCLUDEDIR)$(MANDIR)$(findstring ',$(DESTDIR))
check-folders:
	@others=$$(printf %s "$$FOLDERS" | LC_ALL=C \
	    tr -ds 'A-Za-z0-9 /._+~%,=\200-\377-' '\1-\177'; echo .); \
	[ "$$others" = . ] || { \
	    echo "make: PREFIX, LIBDIR, INCLUDEDIR, MANDIR and DESTDIR may not have $${others%.} in them" >&2; \
	    exit 1; \
	}
