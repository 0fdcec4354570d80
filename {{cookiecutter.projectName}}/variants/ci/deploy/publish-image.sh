#!/bin/sh
# The images of the project's pods: the pipeline's, and the app's if plain Kubernetes runs the app.
#   deploy/publish-image.sh names     their names, for deploy/values.yaml
#   deploy/publish-image.sh publish   builds and pushes the images that the registry lacks, with a signature and an SBOM
#   IMAGES                            their place in a registry, for example registry.example.com/ml
# A name ends with a hash of the image's inputs: the Dockerfile and the files that it copies, as git has them.
set -euf
SYFT=docker.io/anchore/syft:v1.51.1@sha256:95fe0835e5bebc6f8b1f8acef68d47d63d594ef4c0f25c097ff853b23cbac74c
COSIGN=ghcr.io/sigstore/cosign/cosign:v3.1.3@sha256:9e5c2f2edc34351160407ca3416c61855bdf9403c3c5936e0f0be7fc261611b8

refuse() {
    echo "publish-image: $1" >&2
    exit 1
}

# dockerfile IMAGE
dockerfile() {
    echo "deploy/images/$1.Dockerfile"
}

# inputs IMAGE: the files that it is built from, as patterns of git
inputs() {
    dockerfile "$1"
    echo .dockerignore
    awk '$1 == "COPY" && $2 !~ /^--/ { for (i = 2; i < NF; i++) print $i }' "$(dockerfile "$1")"
}

# name IMAGE
name() {
    # shellcheck disable=SC2046 # one word per pattern
    set -- "$1" $(inputs "$1")
    image=$1
    shift
    changed=$(git ls-files --modified --others --exclude-standard -- "$@")
    [ -z "$changed" ] || refuse "$(echo "$changed" | head -n 1) has changes that git does not know: \`git add\` it first"
    tag=$(git ls-files --stage -- "$@" | sha256sum | cut -c 1-12)
    echo "$IMAGES/$image:$tag"
}

# program IMAGE PATH: copies a program out of its vendor's image
program() {
    container=$(docker create "$1")
    docker cp "$container:$2" "$tools/"
    docker rm "$container" > /dev/null
}

# publish IMAGE NAME
publish() {
    if docker manifest inspect "$2" > /dev/null 2>&1; then
        echo "$2 is there already"
        return
    fi
    # The image gets its name when it is signed: the next call repeats a publication that stopped half-way.
    docker build --file "$(dockerfile "$1")" --tag "$2-unsigned" .
    docker push --quiet "$2-unsigned"
    digest=$(docker inspect --format '{{join .RepoDigests "\n"}}' "$2-unsigned" | grep -F "${2%:*}@" | head -n 1)
    [ -n "$digest" ] || refuse "$2-unsigned was pushed, but docker knows no digest of it"
    [ -x "$tools/syft" ] || program "$SYFT" /syft
    [ -x "$tools/cosign" ] || program "$COSIGN" /ko-app/cosign
    "$tools/syft" scan "docker:$2-unsigned" --quiet --output "spdx-json=$tools/sbom.json"
    "$tools/cosign" sign --yes "$digest"
    "$tools/cosign" attest --yes --type spdxjson --predicate "$tools/sbom.json" "$digest"
    docker tag "$2-unsigned" "$2"
    docker push --quiet "$2"
}

cd "$(dirname "$0")/.."
[ -n "${IMAGES:-}" ] || refuse "IMAGES is not set: where the images lie, for example registry.example.com/ml"
# A registry accepts no capitals, which an account may have.
IMAGES=$(echo "$IMAGES" | tr '[:upper:]' '[:lower:]')
git rev-parse --is-inside-work-tree > /dev/null 2>&1 || refuse "$PWD is no git repository: the names come from it"
case ${1:-} in
    names) tools= ;;
    publish) tools=$(mktemp -d) && trap 'rm -r "$tools"' EXIT ;;
    *) refuse "say names or publish" ;;
esac
for image in pipeline app; do
    [ -f "$(dockerfile "$image")" ] || continue
    named=$(name "$image")
    [ -z "$tools" ] || publish "$image" "$named"
    echo "$image.image: $named"
done
