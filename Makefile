include csrc/build.mk
