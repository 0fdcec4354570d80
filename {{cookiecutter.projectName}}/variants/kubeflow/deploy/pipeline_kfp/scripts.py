"""The shell scripts that a step's container runs."""

# The repository's user name and password come from a Secret's variables, never from a command line.
# The tests run shellcheck on the three scripts.
LOGIN = """\
login() {
    # shellcheck disable=SC2016 # the shell that git starts expands the variables
    [ -z "${GIT_PASSWORD:-}" ] || set -- -c credential.helper='!f() { echo "username=$GIT_USERNAME"; \
echo "password=$GIT_PASSWORD"; }; f' "$@"
    GIT_TERMINAL_PROMPT=0 git "$@"
}
"""
# Finds a branch's newest commit. $1 repository, $2 branch, $3 output file.
FIND_COMMIT = (
    LOGIN
    + """\
set -eu
commit=$(login ls-remote --exit-code "$1" "refs/heads/$2")
mkdir -p "$(dirname "$3")"
printf %s "${commit%%[!0-9a-f]*}" > "$3"
"""
)
# Runs a command in a checkout. $1 repository, $2 commit or branch, $3 run, $4 options of the step (those without a
# value are left out), $5 name of the outcome, $6 default outcome, $7 output file for the outcome; then the command.
IN_CHECKOUT = (
    LOGIN
    + """\
set -eu
for role in /credentials/*; do
    [ -d "$role" ] || continue
    mkdir -p "$SERVICE_BINDING_ROOT/${role##*/}"
    ln -s "$role/username" "$role/password" "/addresses/${role##*/}"/* "$SERVICE_BINDING_ROOT/${role##*/}/"
done
url=$1 commit=$2 PIPELINE_RUN=$3 options=$4 outcome=$5 otherwise=$6 file=$7
shift 7
cd "$(mktemp -d)"
git init --quiet
login fetch --quiet --depth 1 "$url" "$commit"
git checkout --quiet FETCH_HEAD
GIT_COMMIT=$(git rev-parse HEAD)
STEP_OUTPUTS=$(mktemp -d)
export PIPELINE_RUN GIT_COMMIT STEP_OUTPUTS
set -f
for option in $options; do
    case $option in *=) ;; *) set -- "$@" "$option" ;; esac
done
[ -n "$outcome" ] || exec "$@"
"$@"
mkdir -p "$(dirname "$file")"
cat "$STEP_OUTPUTS/$outcome" > "$file" 2> /dev/null || printf %s "$otherwise" > "$file"
"""
)
# Runs a command with --status. $1 Kubeflow's final status of the run, as JSON; then the command.
WITH_STATUS = """\
case $1 in *SUCCEEDED*) status=Succeeded ;; *CANCELLED*) status= ;; *) status=Failed ;; esac
shift
exec "$@" "--status=$status"
"""
