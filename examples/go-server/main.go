// A program in Go that listens on $PORT: fn needs to know nothing else of it.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
)

func main() {
	http.HandleFunc("/fibonacci", fibonacci)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("Go on fn\n"))
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

// GET /fibonacci?n=10
func fibonacci(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || n < 0 || n > 92 {
		http.Error(w, "n must be a whole number from 0 to 92", http.StatusUnprocessableEntity)
		return
	}
	a, b := 0, 1
	for i := 0; i < n; i++ {
		a, b = b, a+b
	}
	w.Header().Set("content-type", "application/json")
	json.NewEncoder(w).Encode(map[string]int{"n": n, "value": a})
}
