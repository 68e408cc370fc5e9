# Written by completions/generate.py from the command's parser.
# shellcheck shell=bash

# The words that begin with the typed text, quoted for the command line. The name of a certificate may
# be a command; compgen -W would run it.
_acme_micro_words() {
    local word quoted
    for word; do
        printf -v quoted %q "$word"
        if [[ $word == "$current"* || $quoted == "$current"* ]]; then
            COMPREPLY+=("$quoted")
        fi
    done
}

_acme_micro_certificates() {
    local names
    mapfile -t names < <(acme-micro show --offline 2>/dev/null | awk 'NR > 1 { print $1 }')
    _acme_micro_words "${names[@]}"
}

_acme_micro_files() {
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}

_acme_micro() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' word
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $command/$word in
        '/obtain') command='obtain' ;;
        '/renew') command='renew' ;;
        '/daemon') command='daemon' ;;
        '/move') command='move' ;;
        '/revoke') command='revoke' ;;
        '/delete') command='delete' ;;
        '/show') command='show' ;;
        '/account') command='account' ;;
        'account/show') command='account show' ;;
        'account/create') command='account create' ;;
        'account/contacts') command='account contacts' ;;
        'account/rollover') command='account rollover' ;;
        'account/deactivate') command='account deactivate' ;;
        esac
    done
    case $previous in
    -d | --domain | --name)
        _acme_micro_certificates
        return
        ;;
    --webroot | --folder)
        _acme_micro_files -d
        return
        ;;
    --hook | --cleanup-hook | --deploy-hook)
        _acme_micro_files -c
        return
        ;;
    --challenge-type)
        _acme_micro_words dns-01 http-01 dns-account-01 dns-persist-01
        return
        ;;
    --key-type)
        _acme_micro_words p256 p384 p521 rsa2048 rsa3072 rsa4096 ed25519
        return
        ;;
    --profile | --preferred-chain | --hook-timeout | --allow-host | --proxy | --contact | --eab-kid)
        :
        return
        ;;
    --directory)
        _acme_micro_words letsencrypt letsencrypt-staging google google-staging zerossl
        return
        ;;
    --ca-file | --proxy-file | --eab-key-file | --cert | --key)
        _acme_micro_files -f
        return
        ;;
    --eab-algorithm)
        _acme_micro_words HS256 HS384 HS512
        return
        ;;
    --reason)
        _acme_micro_words unspecified key-compromise ca-compromise affiliation-changed superseded cessation-of-operation certificate-hold remove-from-crl privilege-withdrawn aa-compromise
        return
        ;;
    esac
    case $command in
    '')
        _acme_micro_words -h --help -V --version obtain renew daemon move revoke delete show account
        ;;
    'obtain')
        _acme_micro_words -h --help -d --domain --webroot --standalone --hook --cleanup-hook --challenge-type --name --key-type --profile --preferred-chain --deploy-hook --hook-timeout --force --directory --ca-file --allow-host --proxy --proxy-file --agree-terms --contact --eab-kid --eab-key-file --eab-algorithm --folder --json -q --quiet -v --verbose
        ;;
    'renew')
        if [[ $current != -* ]]; then
            _acme_micro_certificates
            return
        fi
        _acme_micro_words -h --help --force --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'daemon')
        _acme_micro_words -h --help --folder --json -q --quiet -v --verbose
        ;;
    'move')
        if [[ $current != -* ]]; then
            _acme_micro_certificates
            return
        fi
        _acme_micro_words -h --help --directory --ca-file --allow-host --proxy --proxy-file --agree-terms --contact --eab-kid --eab-key-file --eab-algorithm --folder --json -q --quiet -v --verbose
        ;;
    'revoke')
        if [[ $current != -* ]]; then
            _acme_micro_certificates
            return
        fi
        _acme_micro_words -h --help --reason --cert --key --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'delete')
        if [[ $current != -* ]]; then
            _acme_micro_certificates
            return
        fi
        _acme_micro_words -h --help --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'show')
        if [[ $current != -* ]]; then
            _acme_micro_certificates
            return
        fi
        _acme_micro_words -h --help --offline --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'account')
        _acme_micro_words -h --help show create contacts rollover deactivate
        ;;
    'account show')
        _acme_micro_words -h --help --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'account create')
        _acme_micro_words -h --help --key-type --agree-terms --contact --eab-kid --eab-key-file --eab-algorithm --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'account contacts')
        _acme_micro_words -h --help --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'account rollover')
        _acme_micro_words -h --help --key-type --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    'account deactivate')
        _acme_micro_words -h --help --yes --directory --ca-file --allow-host --proxy --proxy-file --folder --json -q --quiet -v --verbose
        ;;
    esac
}

complete -F _acme_micro acme-micro
