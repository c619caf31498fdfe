# Sourced by build and test: a store of images of its own, in e2e/bin/_image (Go looks for packages in no folder whose name begins so),
# and builds without a daemon or a container engine. What is mounted is seen by these processes alone and goes with them, also where a
# build is interrupted.
[[ ${OWN_MOUNTS:-} ]] || OWN_MOUNTS=1 exec unshare --mount "$0" "$@"
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
state=$root/e2e/bin/_image
mkdir -p "$state"
cat >"$state/storage.conf" <<-END
	[storage]
	driver = "${STORAGE_DRIVER:-overlay}"
	graphroot = "$state/graph"
	runroot = "$state/run"
END
export CONTAINERS_STORAGE_CONF=$state/storage.conf BUILDAH_ISOLATION=chroot
