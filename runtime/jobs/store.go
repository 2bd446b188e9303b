package jobs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/nats-io/nats.go/jetstream"

	"unirestorer/weights/atomicfile"
)

// storage reaches the places where pictures lie. S3 servers and keys come from the environment, as every S3 program has
// them: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or instance roles.
type storage struct {
	q *Queue

	mu sync.Mutex
	s3 *minio.Client
}

const (
	s3Scheme     = "s3://"
	objectScheme = "object:"
	// tokenName is a file in folders for results, by which workers know that they see the submitter's folder.
	tokenName = ".unirestorer-folder"
)

// isS3 reports whether a name is one of S3.
func isS3(name string) bool { return strings.HasPrefix(name, s3Scheme) }

// splitS3 takes s3://bucket/key apart.
func splitS3(name string) (bucket, key string, err error) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(name, s3Scheme), "/")
	if bucket == "" {
		return "", "", fmt.Errorf("%s: want s3://BUCKET/KEY", name)
	}
	if err := s3utils.CheckValidBucketName(bucket); err != nil {
		return "", "", fmt.Errorf("%s: %w", name, err)
	}
	return bucket, key, nil
}

func (s *storage) client() (*minio.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s3 != nil {
		return s.s3, nil
	}
	endpoint, secure := "s3.amazonaws.com", true
	if e := os.Getenv("AWS_ENDPOINT_URL"); e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("AWS_ENDPOINT_URL %q: want a URL like https://s3.example.com", e)
		}
		endpoint, secure = u.Host, u.Scheme != "http"
	}
	c, err := minio.New(endpoint, &minio.Options{Secure: secure, Region: os.Getenv("AWS_REGION"), Creds: credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
	})})
	s.s3 = c
	return c, err
}

// read reads a picture, of limit bytes at most.
func (s *storage) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	var r io.ReadCloser
	switch {
	case isS3(name):
		bucket, key, err := splitS3(name)
		if err != nil {
			return nil, err
		}
		c, err := s.client()
		if err != nil {
			return nil, err
		}
		o, err := c.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		r = o
	case strings.HasPrefix(name, objectScheme):
		o, err := s.q.obj.Get(ctx, strings.TrimPrefix(name, objectScheme))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		r = o
	default:
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		r = f
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes", name, limit)
	}
	return b, nil
}

// missing reports whether an error of read says that there is nothing.
func missing(err error) bool {
	return errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, fs.ErrNotExist) || refusedAs(err, "NoSuchKey")
}

// putObject keeps a picture in the object store under its digest, unless it is there.
func (s *storage) putObject(ctx context.Context, name string, data []byte) error {
	info, err := s.q.obj.GetInfo(ctx, name)
	if err == nil && info.Size == uint64(len(data)) {
		return nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		return err
	}
	_, err = s.q.obj.PutBytes(ctx, name, data)
	return err
}

// putS3 stores an object.
func (s *storage) putS3(ctx context.Context, name string, data []byte) error {
	bucket, key, err := splitS3(name)
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	if _, err := c.PutObject(ctx, bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{}); err != nil {
		err = fmt.Errorf("write %s: %w", name, err)
		if refused(err) && !forbidden(err) {
			return err
		}
		return storageError{err} // keys are this machine's, so what they may not do is no fault of the picture
	}
	return nil
}

// refusedAs reports an error of S3 with a code.
func refusedAs(err error, code string) bool {
	var r minio.ErrorResponse
	return errors.As(err, &r) && r.Code == code
}

// refused reports errors of S3 that will be the same again.
func refused(err error) bool {
	var r minio.ErrorResponse
	return errors.As(err, &r) && r.StatusCode >= 400 && r.StatusCode < 500 && r.StatusCode != 408 && r.StatusCode != 429
}

// forbidden reports errors of S3 that other keys would not meet.
func forbidden(err error) bool {
	var r minio.ErrorResponse
	return errors.As(err, &r) && (r.StatusCode == 401 || r.StatusCode == 403)
}

// store stores a result in its place and says there where it is.
func (s *storage) store(ctx context.Context, o *Out, data []byte) error {
	sum := sha256.Sum256(data)
	o.Sum, o.Object = hex.EncodeToString(sum[:]), ""
	switch {
	case isS3(o.To):
		if err := s.putS3(ctx, o.To, data); err != nil {
			return err
		}
	case sees(o):
		if err := writeFile(ctx, o.To, data); err != nil {
			return err
		}
	default:
		o.Object = "result-" + o.Sum
		if err := s.putObject(ctx, o.Object, data); err != nil {
			return storageError{fmt.Errorf("keep the result of %s: %w", o.To, err)}
		}
	}
	o.Done = true
	return nil
}

// stored reads a result that was stored, and makes sure that it is that.
func (s *storage) stored(ctx context.Context, o *Out, limit int64) ([]byte, error) {
	name := o.To
	if o.Object != "" {
		name = objectScheme + o.Object
	} else if !isS3(name) && !sees(o) {
		return nil, fs.ErrNotExist
	}
	b, err := s.read(ctx, name, limit)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != o.Sum {
		return nil, fmt.Errorf("%s has changed", name)
	}
	return b, nil
}

func writeFile(ctx context.Context, path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return atomicfile.Write(ctx, path, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// sees tells whether the folder of a result is the submitter's, and the result's place is in it.
func sees(o *Out) bool {
	if rel, err := filepath.Rel(o.Folder, o.To); err != nil || !filepath.IsAbs(o.Folder) || !filepath.IsLocal(rel) || rel == "." {
		return false
	}
	b, err := os.ReadFile(filepath.Join(o.Folder, tokenName))
	return err == nil && o.Token != "" && strings.TrimSpace(string(b)) == o.Token
}

// mark makes a folder for results recognisable and returns its token.
func mark(ctx context.Context, folder string) (string, error) {
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return "", err
	}
	path := filepath.Join(folder, tokenName)
	if b, err := os.ReadFile(path); err == nil && len(strings.TrimSpace(string(b))) >= 16 {
		return strings.TrimSpace(string(b)), nil
	}
	token := rand.Text()
	if err := writeFile(ctx, path, []byte(token+"\n")); err != nil {
		return "", err
	}
	// Two submitters may have come at once: the one that was last counts.
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// listS3 names the objects below a prefix, or the object itself.
func (s *storage) listS3(ctx context.Context, name string) ([]string, error) {
	bucket, prefix, err := splitS3(name)
	if err != nil {
		return nil, err
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	var keys []string
	for o := range c.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, fmt.Errorf("list %s: %w", name, o.Err)
		}
		rest := strings.TrimPrefix(o.Key, prefix)
		if rest == "" || prefix == "" || strings.HasSuffix(prefix, "/") || strings.HasPrefix(rest, "/") {
			keys = append(keys, o.Key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: nothing there", name)
	}
	return keys, nil
}
