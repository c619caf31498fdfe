package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/rbd-rescue/rbd-rescue/cmd/exit"
)

// Channels of Kubernetes' exec over a websocket, version 5.
const (
	stdout = 1
	status = 3
)

// remediator is an API server with pods of the remediator, whose exec is played.
func remediator(t *testing.T, play func(connection *websocket.Conn, command []string), pods ...corev1.Pod) Pod {
	t.Helper()
	upgrader := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/exec") {
			w.Header().Set("Content-Type", "application/json")
			list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: pods}
			if err := json.NewEncoder(w).Encode(list); err != nil {
				t.Error(err)
			}
			return
		}
		if play == nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"r\" is forbidden: no exec for you","reason":"Forbidden","code":403}`))
			return
		}
		if r.URL.Query().Get("container") != "remediator" {
			t.Errorf("container is %q", r.URL.Query().Get("container"))
		}
		connection, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = connection.Close() }()
		play(connection, r.URL.Query()["command"])
	}))
	t.Cleanup(server.Close)
	return Pod{Config: &rest.Config{Host: server.URL}, Namespace: "rbd-rescue"}
}

func podOf(name string, isReady corev1.ConditionStatus, args ...string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "rbd-rescue", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "remediator", Args: args}}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: isReady}}},
	}
}

func send(t *testing.T, connection *websocket.Conn, channel byte, text string) {
	t.Helper()
	if err := connection.WriteMessage(websocket.BinaryMessage, append([]byte{channel}, text...)); err != nil {
		t.Error(err)
	}
}

func markOf(command []string, code int) string {
	var text strings.Builder
	_ = exit.WriteMark(&text, exit.CallIn(command), code)
	return text.String()
}

const success = `{"metadata":{},"status":"Success"}`

func TestAConnectionThatBreaksIsNoSuccess(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		play    func(t *testing.T, connection *websocket.Conn, command []string)
		code    int
		inDoubt bool
	}{
		"it ends": {play: func(t *testing.T, c *websocket.Conn, command []string) {
			send(t, c, stdout, "the plan\n")
			send(t, c, stdout, markOf(command, 0))
			send(t, c, status, success)
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), now())
		}},
		"it finds something": {code: exit.Failed, play: func(t *testing.T, c *websocket.Conn, command []string) {
			send(t, c, stdout, "the plan\n"+markOf(command, 1))
			send(t, c, status, `{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"1"}]}}`)
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), now())
		}},
		"the API says success, and the command has not": {code: exit.Failed, inDoubt: true, play: func(t *testing.T, c *websocket.Conn, _ []string) {
			send(t, c, stdout, "the plan\n")
			send(t, c, status, success)
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), now())
		}},
		"it is closed in good order, half-way": {code: exit.Failed, inDoubt: true, play: func(t *testing.T, c *websocket.Conn, _ []string) {
			send(t, c, stdout, "the plan\n")
			_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), now())
		}},
		"it is cut off half-way": {code: exit.Failed, inDoubt: true, play: func(t *testing.T, c *websocket.Conn, _ []string) {
			send(t, c, stdout, "the plan\n")
			_ = c.NetConn().Close()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := remediator(t, func(c *websocket.Conn, command []string) { test.play(t, c, command) }, podOf("r", corev1.ConditionTrue))
			var out, problems bytes.Buffer
			err := pod.Run(t.Context(), Streams{Out: &out, Err: &problems}, "plan", "node-a")
			if exit.Code(err) != test.code || errors.Is(err, ErrInDoubt) != test.inDoubt {
				t.Errorf("code %d (%v); want %d, in doubt %v", exit.Code(err), err, test.code, test.inDoubt)
			}
			if out.String() != "the plan\n" {
				t.Errorf("passed on %q", out.String())
			}
		})
	}
}

func TestAReadyPodIsTakenWithItsConfiguration(t *testing.T) {
	t.Parallel()
	var got []string
	pod := remediator(t, func(c *websocket.Conn, command []string) {
		got = command
		send(t, c, stdout, markOf(command, 0))
		send(t, c, status, success)
		_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), now())
	},
		podOf("a-not-ready", corev1.ConditionFalse),
		podOf("b-ready", corev1.ConditionTrue, "remediator", "-v=0", "--config=/etc/first.yaml", "--config", "/etc/last.yaml"))
	if err := pod.Run(t.Context(), Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, "plan", "node-a"); err != nil {
		t.Fatal(err)
	}
	want := []string{"rbd-rescue", "plan", "node-a", "--config=/etc/last.yaml"}
	if len(got) != len(want)+1 || !slices.Equal(got[:len(want)], want) || exit.CallIn(got) == "" {
		t.Errorf("ran %q, want %q and the mark", got, want)
	}
}

func TestWhatWasNeverBegunIsNotInDoubt(t *testing.T) {
	t.Parallel()
	never := func(*websocket.Conn, []string) { t.Error("it was run") }
	for name, test := range map[string]struct {
		pod  Pod
		want string
	}{
		"no pod":       {remediator(t, never), "--rescue-namespace"},
		"no ready pod": {remediator(t, never, podOf("r", corev1.ConditionFalse)), "none of 1 pods"},
		"no right":     {remediator(t, nil, podOf("r", corev1.ConditionTrue)), "no exec for you"},
		"no API":       {Pod{Config: &rest.Config{Host: "http://127.0.0.1:1"}, Namespace: "rbd-rescue"}, "finding the remediator's pods"},
	} {
		err := test.pod.Run(t.Context(), Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}, "plan", "node-a")
		if err == nil || errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func now() time.Time { return time.Now().Add(time.Second) }
