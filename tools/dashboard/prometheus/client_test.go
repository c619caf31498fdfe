package prometheus

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// answering is a Prometheus that gives one answer, and what it was asked.
func answering(t *testing.T, status int, answer string) (Client, *url.URL) {
	t.Helper()
	asked := &url.URL{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = *r.URL
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	return Client{URL: server.URL}, asked
}

func TestAnAnswerAtOneTimeComesInTheOrderOfItsLabels(t *testing.T) {
	t.Parallel()
	client, asked := answering(t, http.StatusOK, `{"status":"success","data":{"resultType":"vector","result":[
		{"metric":{"node":"b"},"value":[1767323045,"2"]},{"metric":{"node":"a"},"value":[1767323045,"1.5"]}]}}`)
	got, err := client.At(t.Context(), `a{b="c"}`, at)
	if err != nil {
		t.Fatal(err)
	}
	want := []Series{
		{Labels: map[string]string{"node": "a"}, Points: []Point{{At: at, Value: 1.5}}},
		{Labels: map[string]string{"node": "b"}, Points: []Point{{At: at, Value: 2}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if q := asked.Query(); asked.Path != "/api/v1/query" || q.Get("query") != `a{b="c"}` || q.Get("time") != "1767323045.000" {
		t.Errorf("asked %s", asked)
	}
}

func TestWhatIsNoNumberIsNoPoint(t *testing.T) {
	t.Parallel()
	client, asked := answering(t, http.StatusOK, `{"status":"success","data":{"resultType":"matrix","result":[
		{"metric":{},"values":[[1767323045,"NaN"],[1767323045.5,"3"],[1767323046,"+Inf"]]},{"metric":{"step":"x"},"values":[[1767323045,"NaN"]]}]}}`)
	got, err := client.Over(t.Context(), "a", at, at.Add(time.Minute), 1500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	want := []Series{{Labels: map[string]string{}, Points: []Point{{At: at.Add(500 * time.Millisecond), Value: 3}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	q := asked.Query()
	if asked.Path != "/api/v1/query_range" || q.Get("start") != "1767323045.000" || q.Get("end") != "1767323105.000" || q.Get("step") != "1.5" {
		t.Errorf("asked %s", asked)
	}
}

func TestAQueryThatFailsIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`{"status":"error","errorType":"bad_data","error":"parse error"}`: "rate(a): parse error",
		"<html>": "502 Bad Gateway",
		`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"x"]}]}}`: "reading a value",
	} {
		client, _ := answering(t, http.StatusBadGateway, answer)
		if _, err := client.At(t.Context(), "rate(a)", at); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestAPrometheusThatDoesNotAnswerIsNotWaitedForLongerThanTheCallerWaits(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(end) }) // first: the server waits for its calls
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := (Client{URL: server.URL}).At(ctx, "a", at); err == nil {
		t.Error("there was an answer")
	}
}
