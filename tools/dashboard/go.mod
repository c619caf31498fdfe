module github.com/rbd-rescue/rbd-rescue/tools/dashboard

go 1.26.0
