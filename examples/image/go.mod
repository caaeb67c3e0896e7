module image

go 1.19
