package conductorapi

// bulkResult is the official BulkResponse.
type bulkResult struct {
	failed map[string]string
	done   []string
}

func (b *bulkResult) add(name string, err error) {
	if err == nil {
		b.done = append(b.done, name)
		return
	}
	if b.failed == nil {
		b.failed = map[string]string{}
	}
	b.failed[name] = failureOf(err).message
}

func (b *bulkResult) body() []byte {
	o := newObject(nil)
	o.pairs("bulkErrorResults", b.failed)
	o.texts("bulkSuccessfulResults", b.done)
	o.string("message", "Bulk Request has been processed.")
	return o.end()
}
