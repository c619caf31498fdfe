// Package packed is a cache for kinds of which a large cluster has 100,000 objects: it keeps of each one short string, and makes a
// Kubernetes object of it whenever somebody reads it. An object of Kubernetes' types takes 400 to 1,500 bytes even when it is empty,
// a record here 50 to 200, and an entry of an index 12 instead of 300. It takes the place of client-go's informer below
// controller-runtime's cache, so that nobody above knows. It knows no kind, and decides nothing.
package packed
