//go:build librados

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

// node is the node service: stage maps an image, publish starts its writer.
type node struct {
	csi.UnimplementedNodeServer
	options options
	images  *images
	mounter mount.Interface

	lock    sync.Mutex
	busy    map[string]bool    // by volume
	writers map[string]*writer // by target path
}

func newNode(o options, m mapper) *node {
	return &node{options: o, images: newImages(m), mounter: mount.New(""), busy: map[string]bool{}, writers: map[string]*writer{}}
}

// alone lets one call work on a volume at a time, as ceph-csi does: a call that hangs holds up no other volume, and the
// kubelet repeats a call that took long.
func (n *node) alone(volumeID string) (done func(), err error) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.busy[volumeID] {
		return nil, status.Errorf(codes.Aborted, "an operation with the given Volume ID %s already exists", volumeID)
	}
	n.busy[volumeID] = true
	return func() {
		n.lock.Lock()
		defer n.lock.Unlock()
		delete(n.busy, volumeID)
	}, nil
}

func (n *node) writer(target string) *writer {
	n.lock.Lock()
	defer n.lock.Unlock()
	return n.writers[target]
}

// setWriter notes the writer of a target; nil for none any more.
func (n *node) setWriter(target string, w *writer) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if w == nil {
		delete(n.writers, target)
		return
	}
	n.writers[target] = w
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.options.node}, nil
}

func (n *node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{{
		Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}},
	}}}, nil
}

// NodeStageVolume opens the image, which makes the node a watcher of it, and mounts a file system that stands for the image's.
func (n *node) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	done, err := n.alone(r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer done()
	ref := imageRef{r.VolumeContext["clusterID"], r.VolumeContext["pool"], r.VolumeContext["imageName"]}
	if ref.clusterID == "" || ref.pool == "" || ref.name == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume context has no clusterID, pool or imageName")
	}
	if err := n.images.open(ctx, r.VolumeId, ref, manyWriters(r.VolumeCapability)); err != nil {
		return nil, statusOf(err)
	}
	if r.VolumeCapability.GetBlock() != nil {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	if err := n.mountAt(r.StagingTargetPath, "tmpfs", "tmpfs", "size=1m"); err != nil {
		return nil, statusOf(err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// NodeUnstageVolume closes the image.
func (n *node) NodeUnstageVolume(_ context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	done, err := n.alone(r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := n.unmount(r.StagingTargetPath); err != nil {
		return nil, statusOf(err)
	}
	if err := n.images.close(r.VolumeId); err != nil {
		return nil, statusOf(err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume starts the writer, as the container that gets the volume would.
func (n *node) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	done, err := n.alone(r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer done()
	if n.writer(r.TargetPath) != nil {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	image, err := n.images.get(r.VolumeId)
	if err != nil {
		return nil, statusOf(err)
	}
	if image == nil {
		return nil, status.Error(codes.FailedPrecondition, "the volume is not staged")
	}
	if r.VolumeCapability.GetBlock() != nil {
		err = n.deviceAt(ctx, r.TargetPath)
	} else {
		err = n.mountAt(r.TargetPath, r.StagingTargetPath, "", "bind")
	}
	if err != nil {
		return nil, statusOf(err)
	}
	n.setWriter(r.TargetPath, startWriter(image, n.options))
	return &csi.NodePublishVolumeResponse{}, nil
}

// manyWriters tells whether others may have the image open as well: ReadWriteMany.
func manyWriters(c *csi.VolumeCapability) bool {
	return c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
}

// NodeUnpublishVolume stops the writer. It fails while a write of it hangs, as a process in uninterruptible sleep keeps its
// mount.
func (n *node) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	done, err := n.alone(r.VolumeId)
	if err != nil {
		return nil, err
	}
	defer done()
	if w := n.writer(r.TargetPath); w != nil {
		if !w.stop() {
			return nil, status.Errorf(codes.Internal, "unmounting %s: target is busy: a write hangs", r.TargetPath)
		}
		n.setWriter(r.TargetPath, nil)
	}
	if err := n.unmount(r.TargetPath); err != nil {
		return nil, statusOf(err)
	}
	if err := freeDevice(ctx, backingFile(r.TargetPath)); err != nil {
		return nil, statusOf(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (n *node) mountAt(path, source, kind string, mountOptions ...string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("making mount point %s: %w", path, err)
	}
	mounts, err := n.mounter.List()
	if err != nil {
		return fmt.Errorf("listing mounts: %w", err)
	}
	if slices.ContainsFunc(mounts, func(m mount.MountPoint) bool { return m.Path == path }) {
		return nil
	}
	if err := n.mounter.Mount(source, path, kind, mountOptions); err != nil {
		return fmt.Errorf("mounting %s: %w", path, err)
	}
	return nil
}

func (n *node) unmount(path string) error {
	if err := mount.CleanupMountPoint(path, n.mounter, true); err != nil {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	return nil
}

// statusOf gives the kubelet an error as ceph-csi does.
func statusOf(err error) error {
	if errors.Is(err, syscall.ESHUTDOWN) {
		return status.Errorf(codes.Internal, "rbd: map failed: (108) Cannot send after transport endpoint shutdown: %v", err)
	}
	return status.Error(codes.Internal, err.Error())
}
