# Sourced by build and test: a store of images of its own, in e2e/bin/_image, and builds without a daemon or a container engine. Go
# looks for packages in no folder whose name begins so.
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
