package look

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rbd-rescue/rbd-rescue/ceph"
	"github.com/rbd-rescue/rbd-rescue/doctor"
)

// Pod is what a look from the remediator's pod works with.
type Pod struct {
	// Reader asks the API itself.
	Reader client.Reader
	// REST is where the API server is.
	REST     *rest.Config
	Clusters *ceph.Clusters
	// Users of the clusters by clusterID, in the order of IDs.
	IDs   []string
	Users map[string]string
	// Namespace is rbd-rescue's own.
	Namespace string
	// Metrics is the URL of the remediator's metrics; empty if it has none.
	Metrics string
	// Patience is how long the remediator may take to hear of what the API has shown us; a watch takes milliseconds.
	Patience time.Duration
	// Room refuses to read on where the memory that the look shares with the remediator is nearly full; nil for no limit.
	Room func() error
}

// Look gathers the facts. It returns by the context's deadline, and each part has one of its own.
func (p Pod) Look(ctx context.Context) doctor.Inside {
	f := doctor.Inside{Namespace: p.Namespace, Unread: doctor.Unread{}}
	o, unread := list(ctx, roomy{p.Reader, p.Room})
	f.Nodes, f.Drivers, f.Volumes = o.nodes, o.drivers, o.rbdVolumes()
	for check, kinds := range map[string][]string{
		doctor.CheckPools:      {"PersistentVolume"},
		doctor.CheckClusterIDs: {"PersistentVolume"},
		doctor.CheckVolumes:    {"PersistentVolume", "CSIDriver"},
		doctor.CheckRecords:    {"PersistentVolume", "VolumeAttachment", "Pod", "Node"},
		doctor.CheckAddresses:  {"PersistentVolume", "Node"},
	} {
		for _, kind := range kinds {
			if err := unread[kind]; err != nil {
				f.Unread[check] = err
			}
		}
	}
	f.Clusters = p.clusters(ctx, f.Volumes)
	f.APITime, f.Now = p.apiTime(ctx)
	var err error
	if f.Caches, err = p.caches(ctx, o.newest); err != nil {
		f.Unread[doctor.CheckCaches] = err
	}
	for _, err := range unread { // what was not read cannot be compared
		f.Unread[doctor.CheckCaches] = err
	}
	return f
}

const apiTimeout = 10 * time.Second

// apiTime is the API server's clock, to the second, and ours at that moment. Its answer has the time, whatever it says.
func (p Pod) apiTime(ctx context.Context) (theirs, ours time.Time) {
	ours = time.Now()
	theirs, err := APITime(ctx, p.REST)
	if err != nil {
		return time.Time{}, ours
	}
	return theirs, ours.Add(time.Since(ours) / 2)
}

// APITime asks the API server for its time, which it tells in whole seconds.
func APITime(ctx context.Context, config *rest.Config) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	http1, err := rest.HTTPClientFor(config)
	if err != nil {
		return time.Time{}, fmt.Errorf("making a client: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return time.Time{}, fmt.Errorf("finding the API server: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("version").String(), nil)
	if err != nil {
		return time.Time{}, err
	}
	response, err := http1.Do(request)
	if err != nil {
		return time.Time{}, fmt.Errorf("asking the API server for its time: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	told := response.Header.Get("Date")
	if told == "" {
		return time.Time{}, errors.New("the API server does not tell its time")
	}
	return http.ParseTime(told)
}
