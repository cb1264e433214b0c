package doctor

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Staple is an OCSP response (RFC 6960) that a server sends along with its certificate, as far as it is of use here. Who signed it is not
// checked.
type Staple struct {
	Status     string // good, revoked, unknown
	Serial     *big.Int
	ThisUpdate time.Time
	NextUpdate time.Time // zero is none
	RevokedAt  time.Time
}

type ocspResponse struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	} `asn1:"explicit,tag:0,optional"`
}

type ocspBasic struct {
	Data      ocspData
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
	Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type ocspData struct {
	Version   int `asn1:"optional,default:0,explicit,tag:0"`
	Responder asn1.RawValue
	Produced  time.Time `asn1:"generalized"`
	Responses []ocspSingle
}

type ocspSingle struct {
	ID struct {
		Hash      pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}
	Status     asn1.RawValue    // a choice of tags 0 to 2
	ThisUpdate time.Time        `asn1:"generalized"`
	NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

var oidBasicResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// ParseStaple reads an OCSP response. b is not retained.
func ParseStaple(b []byte) (Staple, error) {
	var r ocspResponse
	if rest, err := asn1.Unmarshal(b, &r); err != nil || len(rest) > 0 {
		return Staple{}, errors.New("read OCSP response: it is malformed")
	}
	if r.Status != 0 {
		return Staple{}, fmt.Errorf("read OCSP response: the responder could not tell (status %d)", r.Status)
	}
	if !r.Bytes.Type.Equal(oidBasicResponse) {
		return Staple{}, errors.New("read OCSP response: it is of an unknown type")
	}
	var basic ocspBasic
	if _, err := asn1.Unmarshal(r.Bytes.Response, &basic); err != nil || len(basic.Data.Responses) == 0 {
		return Staple{}, errors.New("read OCSP response: its content is malformed")
	}
	one := basic.Data.Responses[0]
	s := Staple{Serial: one.ID.Serial, ThisUpdate: one.ThisUpdate, NextUpdate: one.NextUpdate}
	switch one.Status.Tag {
	case 0:
		s.Status = "good"
	case 1:
		s.Status = "revoked"
		// RevokedInfo's first field; a reason may follow.
		_, _ = asn1.UnmarshalWithParams(one.Status.Bytes, &s.RevokedAt, "generalized")
	default:
		s.Status = "unknown"
	}
	return s, nil
}

// mustStaple says whether a certificate asks for a staple: the TLS feature extension (RFC 7633) with status_request.
func mustStaple(c *x509.Certificate) bool {
	for _, x := range c.Extensions {
		if x.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}) {
			var features []int
			if _, err := asn1.Unmarshal(x.Value, &features); err == nil {
				for _, f := range features {
					if f == 5 {
						return true
					}
				}
			}
		}
	}
	return false
}
