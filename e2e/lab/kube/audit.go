package kube

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"
)

// auditPolicy writes which requests the API server logs: those of the users whose rights are to be compared with their needs.
func (c *ControlPlane) auditPolicy() (path string, err error) {
	policy := auditv1.Policy{
		TypeMeta:   metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "Policy"},
		OmitStages: []auditv1.Stage{auditv1.StageRequestReceived},
		Rules:      []auditv1.PolicyRule{{Level: auditv1.LevelMetadata, Users: c.options.AuditedUsers}, {Level: auditv1.LevelNone}},
	}
	if len(c.options.AuditedUsers) == 0 {
		policy.Rules = policy.Rules[1:]
	}
	text, err := yaml.Marshal(policy)
	if err != nil {
		return "", fmt.Errorf("encoding the audit policy: %w", err)
	}
	path = filepath.Join(c.options.Dir, "audit-policy.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("writing the audit policy: %w", err)
	}
	return path, nil
}

func (c *ControlPlane) auditLog() string { return filepath.Join(c.options.Dir, "audit.log") }

// Audited visits every request of the audited users since the control plane was started.
func (c *ControlPlane) Audited(visit func(auditv1.Event)) error {
	file, err := os.Open(c.auditLog())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return fmt.Errorf("reading the audit log: %w", err)
		}
		visit(event)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	return nil
}
