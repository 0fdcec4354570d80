#!/bin/sh
# Starts the inference database; the first start, on an empty volume, creates it. Arguments go to the server.
#   POSTGRES_USER_FILE, POSTGRES_PASSWORD_FILE   files that hold the superuser's name and password (a mounted Secret)
#   POSTGRES_DB_FILE, or POSTGRES_DB             a file that holds the database's name, or the name
#   TLS_CERTIFICATE_FILE, TLS_KEY_FILE           the server's certificate and key: with them every connection needs TLS
set -eu
umask 077

refuse() {
    echo "inference-db: $1" >&2
    exit 1
}

# content VARIABLE FILE: prints a file's content without the last line break
content() {
    [ -n "$2" ] || refuse "$1 is not set: it names a file"
    if ! [ -f "$2" ] || ! [ -r "$2" ]; then
        refuse "$1 is $2, where there is no file that user $(id -u) can read"
    fi
    [ -s "$2" ] || refuse "$1 is $2, which is empty"
    cat "$2"
}

# The folder gets its name when it is complete: the next start removes and recreates an incomplete one.
make() {
    user=$(content POSTGRES_USER_FILE "${POSTGRES_USER_FILE:-}")
    content POSTGRES_PASSWORD_FILE "${POSTGRES_PASSWORD_FILE:-}" > /dev/null
    database=${POSTGRES_DB:-}
    [ -n "$database" ] || database=$(content POSTGRES_DB_FILE "${POSTGRES_DB_FILE:-}")
    case $database in
        *[!A-Za-z0-9_-]*) refuse "the database is called '$database'; allowed are letters, digits, _ and -" ;;
    esac
    unfinished=$PGDATA.unfinished
    rm -rf "$unfinished"
    mkdir -p "$unfinished"
    initdb --pgdata="$unfinished" --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-instructions
    [ "$database" = postgres ] || echo "CREATE DATABASE \"$database\"" | alone postgres
    # No login needs temporary tables or large objects, which could fill the volume.
    alone "$database" << SQL
CREATE EXTENSION IF NOT EXISTS plpython3u
REVOKE TEMPORARY ON DATABASE "$database" FROM PUBLIC
REVOKE EXECUTE ON FUNCTION lo_creat(int), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC
SQL
    mv "$unfinished" "$PGDATA"
}

# alone DATABASE: runs SQL without network and password, before anybody else can connect
alone() {
    postgres --single -D "$unfinished" -c exit_on_error=on -c log_checkpoints=off "$1" > /dev/null
}

[ -d "$PGDATA" ] || make

connection=host
if [ -n "${TLS_CERTIFICATE_FILE:-}${TLS_KEY_FILE:-}" ]; then
    content TLS_CERTIFICATE_FILE "${TLS_CERTIFICATE_FILE:-}" > /dev/null
    content TLS_KEY_FILE "${TLS_KEY_FILE:-}" > /dev/null
    connection=hostssl
    set -- -c ssl=on -c ssl_cert_file="$TLS_CERTIFICATE_FILE" -c ssl_key_file="$TLS_KEY_FILE" "$@"
fi
echo "$connection all all all scram-sha-256" > "$PGDATA/pg_hba.conf"

exec postgres -c listen_addresses='*' -c unix_socket_directories= -c log_line_prefix='%m [%p] %q%u@%d %a ' "$@"
