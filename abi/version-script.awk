# Makes the linker's version script of libacme-micro.symbols, sorted by version: each symbol has the
# version that brought it, each version includes the one before, and nothing else is exported.

{ symbols[$2] = symbols[$2] "        " $1 ";\n" }
$2 != last { versions[++count] = last = $2 }

END {
    for (i = 1; i <= count; i++) {
        printf "ACME_MICRO_%s {\n    global:\n%s", versions[i], symbols[versions[i]]
        if (i == 1)
            print "    local:\n        *;\n};"
        else
            print "} ACME_MICRO_" versions[i - 1] ";"
    }
}
