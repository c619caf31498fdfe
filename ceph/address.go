package ceph

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Address is one Ceph client instance, IP:port/nonce. A client's port is 0; the nonce is made anew with each instance, so
// that an address never means a later boot or a later mapping. Addresses are parsed and compared as values, never as text.
type Address struct {
	IP    netip.Addr
	Port  uint16
	Nonce uint32
}

// ParseAddress reads an address as `rbd status` and `ceph osd blocklist ls` print it: "10.0.0.5:0/42", "[fd00::7]:0/42",
// also with the prefix of the messenger's protocol ("v1:", "v2:", "any:"), which the blocklist does not look at. Nonce 0
// means the whole host there. An IPv4-mapped IPv6 address is taken for the IPv4 address that it means: Ceph itself can't
// read the mapped form, and daemons that listen on an IPv4 address never see one.
func ParseAddress(text string) (Address, error) {
	rest := text
	for _, protocol := range []string{"v1:", "v2:", "any:"} {
		if trimmed, ok := strings.CutPrefix(rest, protocol); ok {
			rest = trimmed
			break
		}
	}
	endpoint, nonceText, ok := strings.Cut(rest, "/")
	if !ok {
		return Address{}, fmt.Errorf("%q is not a Ceph client address: it has no /nonce", text)
	}
	nonce, err := parseNumber(nonceText, 32)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not a Ceph client address: its nonce %w", text, err)
	}
	at := strings.LastIndexByte(endpoint, ':')
	if at < 0 {
		return Address{}, fmt.Errorf("%q is not a Ceph client address: it has no :port", text)
	}
	port, err := parseNumber(endpoint[at+1:], 16)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not a Ceph client address: its port %w", text, err)
	}
	ip, err := parseIP(endpoint[:at])
	if err != nil {
		return Address{}, fmt.Errorf("%q is not a Ceph client address: %w", text, err)
	}
	return Address{IP: ip, Port: uint16(port), Nonce: uint32(nonce)}, nil
}

// ParseAddresses reads one address, or a list of the forms that a client of messenger 2 has: "[v2:10.0.0.5:0/42,v1:10.0.0.5:0/42]".
// Forms that mean the same client are given once.
func ParseAddresses(text string) ([]Address, error) {
	list := []string{text}
	if strings.HasPrefix(text, "[v") || strings.HasPrefix(text, "[any:") {
		inner, closed := strings.CutSuffix(text[1:], "]")
		if !closed {
			return nil, fmt.Errorf("%q is not a list of Ceph addresses: its bracket is not closed", text)
		}
		list = strings.Split(inner, ",")
	}
	var addresses []Address
	for _, one := range list {
		address, err := ParseAddress(one)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

// MustParseAddress is ParseAddress for constants; it panics on what is none.
func MustParseAddress(text string) Address {
	address, err := ParseAddress(text)
	if err != nil {
		panic(err)
	}
	return address
}

// parseNumber takes decimal digits only: strconv alone would take a sign.
func parseNumber(text string, bits int) (uint64, error) {
	if text == "" || strings.TrimLeft(text, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	number, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return number, nil
}

// parseIP wants an IPv6 address in brackets and an IPv4 address without.
func parseIP(text string) (netip.Addr, error) {
	inner, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		if inner, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return netip.Addr{}, fmt.Errorf("bracket not closed in %q", text)
		}
	}
	ip, err := netip.ParseAddr(inner)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", text)
	case ip.Zone() != "":
		return netip.Addr{}, fmt.Errorf("IP address %q has a zone", text)
	case ip.Is4() == bracketed:
		return netip.Addr{}, fmt.Errorf("only an IPv6 address stands in brackets: %q", text)
	}
	return ip.Unmap(), nil
}

// String is the address as the blocklist commands take and print it.
func (a Address) String() string {
	return fmt.Sprintf("%s/%d", netip.AddrPortFrom(a.IP, a.Port), a.Nonce)
}

// Host is the address that means every client of a's host: its IP with port and nonce 0.
func (a Address) Host() Address { return Address{IP: a.IP} }

// MarshalText implements encoding.TextMarshaler. An Address without an IP has no text.
func (a Address) MarshalText() ([]byte, error) {
	if !a.IP.IsValid() {
		return nil, errors.New("a Ceph client address without an IP has no text")
	}
	return []byte(a.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler by ParseAddress.
func (a *Address) UnmarshalText(text []byte) error {
	parsed, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
